# SPDX-License-Identifier: Apache-2.0
"""Fills a database with nodes and instances by a lane in this process: no message is too large for it."""

from collections.abc import Sequence

import sqlalchemy as sa

from tests.benchmarks.throughput.messages import Message
from tests.functional.lanes import LaneBench
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import CLAIMS, NODES

AT_ONCE = 64
_HELD = sa.select(CLAIMS.c.node, sa.func.count()).group_by(CLAIMS.c.node)


def fill(url: str, first: Sequence[Message]) -> None:
    """Apply the first messages of a scenario. Raises AssertionError if one is not applied."""
    engine = create_engine(url)
    bench = LaneBench(engine, notify=False)
    try:
        for start in range(0, len(first), AT_ONCE):
            messages = first[start : start + AT_ONCE]
            deliveries = [bench.deliver_body(message.body, message.node) for message in messages]
            bench.run()
            assert {delivery.outcome for delivery in deliveries} == {"applied"}
    finally:
        bench.close()
        engine.dispose()


def stagger(url: str) -> None:
    """Spread the nodes' sequences evenly over as many events as they hold instances.

    A node's whole sum is proved once in so many events. With this, the nodes' next events cause as many
    proofs as they do on average, however few they are.
    """
    engine = create_engine(url)
    with engine.begin() as connection:
        held = connection.execute(_HELD.order_by(CLAIMS.c.node)).all()
        for number, (node, claims) in enumerate(held):
            sequence = NODES.c.sequence + number * claims // len(held)
            connection.execute(sa.update(NODES).where(NODES.c.name == node).values(sequence=sequence))
    engine.dispose()
