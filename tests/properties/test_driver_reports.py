# SPDX-License-Identifier: Apache-2.0
"""Reports of real drivers are taken: none is parked, and every guest gets an answer."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import convert, to_builtins

from tests import samples
from tests.builders import NODE, a_report, command, decided
from tests.functional.lanes import LaneBench
from tests.properties import drivers, hosts
from tracker_worker.cmd.database import database_file
from tracker_worker.core.envelope import encode, open_envelope, read_command
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import DEAD_LETTERS
from tracker_worker.domain.commands import UpdateAvailableResource
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.objects import Instance, Limits, Resources
from tracker_worker.domain.shapes import read_known
from tracker_worker.domain.views import node_view

Json = dict[str, Any]

AS_SENT = ("stats", "inventories", "capabilities", "disk_available_least")
QUICK = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def taken(report: Json) -> Resources:
    """The report as a worker reads it off the bus. Raises BadMessage where it would be parked."""
    body = encode("update_available_resource", {"node": NODE, "resources": report})
    command = read_command(open_envelope(body))
    assert isinstance(command, UpdateAvailableResource)
    return command.resources


def fractions(value: Any) -> Iterator[float]:
    """The numbers that a rule would count in fractions."""
    if isinstance(value, float):
        yield value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if key not in AS_SENT and not str(key).endswith(("_used", "_ratio")):
            yield from fractions(one)


@QUICK
@given(drivers.reports)
def test_report_of_a_driver_is_taken_and_its_fractions_are_cut(report: Json) -> None:
    resources = taken(report)
    assert list(fractions(to_builtins(resources))) == []
    assert read_known(to_builtins(resources), Resources) == resources


@QUICK
@given(drivers.reports, st.lists(st.tuples(hosts.wishes, hosts.limits), max_size=6), st.booleans())
def test_every_guest_of_a_reported_host_gets_an_answer(
    report: Json, guests: list[tuple[hosts.Wish, Json | None]], pack: bool
) -> None:
    rules = hosts.tracker_settings(pack)
    node, first = decided(Node(NODE), a_report(resources=taken(report)), rules)
    node, again = decided(node, a_report(resources=taken(report)), rules)
    assert (first.outcome, again.outcome) == ("applied", "ignored")
    for number, (wish, limits) in enumerate(guests):
        instance = samples.an_instance(f"guest-{number}", wish.flavor(), vm_state="building", os_type="")
        claim = command(
            "instance_claim",
            instance=convert(instance, Instance),
            limits=None if limits is None else convert(limits, Limits),
        )
        node, decision = decided(node, claim, rules)
        assert decision.outcome in ("granted", "refused")
        assert_sum(node)
        json.dumps(node_view(node), allow_nan=False)


@settings(QUICK, max_examples=3, phases=[Phase.generate])
@given(st.lists(drivers.reports, min_size=25, max_size=25))
def test_report_of_a_driver_is_stored_and_not_parked(empty_database: Path, reports: list[Json]) -> None:
    with tempfile.TemporaryDirectory(prefix="tracker-worker-drivers-") as directory:
        copy = shutil.copyfile(empty_database, database_file(Path(directory)))
        engine = create_engine(f"sqlite:///{copy}")
        bench = LaneBench(engine)
        for number, report in enumerate(reports):
            node, uuid = f"node-{number}", str(UUID(int=number))
            args = {"node": node, "resources": report | {"uuid": uuid}}
            bench.deliver_body(encode("update_available_resource", args), node)
        bench.run()
        assert bench.rows(DEAD_LETTERS) == []
        stored = bench.unit_of_work.load([f"node-{number}" for number in range(len(reports))])
        assert all(node.tracked for node in stored.values())
        bench.close()
        engine.dispose()
