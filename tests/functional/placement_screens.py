# SPDX-License-Identifier: Apache-2.0
"""The screens of doc/source/admin/placement.rst: what the audit prints of two nodes and their allocations."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import NAMESPACE_OID, uuid5

from tests.builders import a_flavor, a_migration, a_report, an_instance, args_of, command, some_resources
from tests.fake_placement import FakePlacement
from tests.functional.allocations import add_provider, allocate
from tests.functional.lanes import LaneBench
from tests.functional.screens import START, screen
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.cmd.manage import placement_audit
from tracker_worker.core.envelope import encode
from tracker_worker.domain.commands import METHOD_OF, AnyCommand

COMMANDS = {
    "placement-audit": ("placement", "audit"),
    "placement-dry-run": ("placement", "audit", "compute-1", "--dry-run"),
    "placement-fix": ("placement", "audit", "compute-1", "--fix", "--grace", "0"),
}
ONE, TWO = "compute-1", "compute-2"
SMALL = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20}
BIG = {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 40}


def an_id(name: str) -> str:
    """The uuid of an instance, a migration or a node of the screens."""
    return str(uuid5(NAMESPACE_OID, name))


def screens(directory: Path) -> Iterator[tuple[str, str]]:
    """Prepare the nodes in an empty directory; yield each screen with its name."""
    engine = embedded_engine(directory)
    bench = LaneBench(engine)
    for number, each in enumerate(_events()):
        _apply(bench, number, each)
    bench.close()
    engine.dispose()
    file = directory / "screens.conf"
    file.write_text(f"[DEFAULT]\nstate_path = {directory}\ntransport_url = fake://\n")
    with patch.object(placement_audit, "placement_client", return_value=_allocations()):
        for name, arguments in COMMANDS.items():
            yield name, screen(file, arguments)


def _apply(bench: LaneBench, number: int, each: AnyCommand) -> None:
    event_id = f"placement-{number}"
    arguments = {**args_of(each), "event_id": event_id}
    bench.deliver_body(
        encode(METHOD_OF[type(each)], arguments, request_id=f"req-{an_id(event_id)}"), each.node
    )
    bench.run()
    bench.date(START + timedelta(minutes=number), event_id)


def _events() -> Iterator[AnyCommand]:
    big = a_flavor(4, 4096, 40)
    for node in (ONE, TWO):
        yield a_report(node=node, resources=some_resources(uuid=an_id(node), host=node))
    for name in ("deleted", "resized", "moved"):
        yield command("instance_claim", node=ONE, instance=an_instance(an_id(name)))
    moved = an_instance(an_id("moved"))
    migration = a_migration(an_id("move"), moved.uuid, source_node=ONE, dest_node=TWO)
    yield command("resize_claim", node=TWO, instance=moved, flavor=big, migration=migration)
    ids = {"instance_uuid": moved.uuid, "migration_uuid": migration.uuid}
    yield command("start_move", node=ONE, **ids)
    landed = an_instance(moved.uuid, big)
    yield command("finish_move", node=TWO, instance=landed, migration_uuid=migration.uuid)
    yield command("drop_move_claim_at_source", node=ONE, **ids)
    yield command("update_usage", node=ONE, instance=an_instance(an_id("deleted"), vm_state="deleted"))
    yield command("instance_claim", node=TWO, instance=an_instance(an_id("booted")))


def _allocations() -> FakePlacement:
    placement = FakePlacement()
    for node in (ONE, TWO):
        add_provider(placement, an_id(node), node)
    allocate(placement, an_id("deleted"), an_id(ONE), SMALL)
    allocate(placement, an_id("resized"), an_id(ONE), BIG)
    allocate(placement, an_id("move"), an_id(ONE), SMALL)
    allocate(placement, an_id("moved"), an_id(TWO), BIG)
    allocate(placement, an_id("unknown"), an_id(ONE), SMALL)
    return placement
