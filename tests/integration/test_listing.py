# SPDX-License-Identifier: Apache-2.0
"""What operators read, on PostgreSQL."""

from tests.builders import a_report, some_resources
from tests.functional.lanes import LaneBench
from tracker_worker.db import queries
from tracker_worker.db.engine import create_engine


def test_nodes_are_listed_whatever_their_reports_say(database_url: str) -> None:
    """PostgreSQL keeps a NUL in a text, but does not look into JSON that has one."""
    engine = create_engine(database_url)
    bench = LaneBench(engine)
    bench.send(a_report(resources=some_resources(cpu_info={"model": "a\0b"})))
    with engine.connect() as connection:
        (node,) = queries.nodes(connection)
    bench.close()
    engine.dispose()
    assert (node.vcpus, node.memory_mb, node.local_gb) == (8, 16384, 100)
