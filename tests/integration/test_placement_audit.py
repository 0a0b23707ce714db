# SPDX-License-Identifier: Apache-2.0
"""The audit of allocations on a real Placement, with the ledger on each database server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import a_flavor, a_migration, a_report, an_instance, command, some_resources
from tests.functional.lanes import LaneBench
from tests.functional.manage import Manage
from tests.integration.placement_clients import a_uuid, allocate, client_of
from tests.servers.placement import Placement
from tracker_worker.db.engine import create_engine
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.records import Inventory

INVENTORIES = {"VCPU": Inventory(64), "MEMORY_MB": Inventory(65536), "DISK_GB": Inventory(1000)}
SMALL = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20}
BIG = {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 40}


@pytest.fixture(params=["database_url", "mariadb_url"], ids=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bench(url: str) -> Iterator[LaneBench]:
    engine: sa.Engine = create_engine(url)
    bench = LaneBench(engine)
    yield bench
    bench.close()
    engine.dispose()


@pytest.fixture
def client(placement: Placement) -> PlacementClient:
    return client_of(placement.url)


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, placement: Placement) -> Manage:
    manage = Manage(tmp_path, capsys)
    manage.configure(
        f"[database]\nconnection = {url}\n[placement]\nauth_type = admin_token\n"
        f"endpoint = {placement.url}\ntoken = {placement.admin}\n"
    )
    return manage


def a_node(bench: LaneBench, client: PlacementClient) -> tuple[str, str]:
    """A node with its provider: its name, which no other test has, and its uuid."""
    uuid = a_uuid()
    name = f"node-{uuid}"
    bench.send(a_report(node=name, resources=some_resources(uuid=uuid, host=name, vcpus=64, memory_mb=65536)))
    client.put_inventories(uuid, client.create(uuid, name, None), INVENTORIES)
    return name, uuid


def audited(manage: Manage, *arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The findings by node and consumer."""
    manage.run("placement", "audit", *arguments, "--format", "json")
    assert manage.out, manage.err
    found = json.loads(manage.out)["findings"]
    return {(each["node"], each["consumer"]): each for each in found}


def boot(bench: LaneBench, node: str) -> str:
    uuid = a_uuid()
    bench.send(command("instance_claim", node=node, instance=an_instance(uuid)))
    return uuid


def delete(bench: LaneBench, node: str, uuid: str) -> None:
    bench.send(command("update_usage", node=node, instance=an_instance(uuid, vm_state="deleted")))


def move(bench: LaneBench, source: str, destination: str, uuid: str) -> str:
    """Resize an instance and confirm it; return the uuid of the migration."""
    migration, flavor = a_uuid(), a_flavor(4, 4096, 40)
    asked = a_migration(migration, uuid, source_node=source, dest_node=destination)
    instance, landed = an_instance(uuid), an_instance(uuid, flavor)
    ids = {"instance_uuid": uuid, "migration_uuid": migration}
    bench.send(command("resize_claim", node=destination, instance=instance, flavor=flavor, migration=asked))
    bench.send(command("start_move", node=source, **ids))
    bench.send(command("finish_move", node=destination, instance=landed, migration_uuid=migration))
    bench.send(command("drop_move_claim_at_source", node=source, **ids))
    return migration


def test_each_kind_of_difference_is_found_and_what_is_proved_is_removed(
    bench: LaneBench, manage: Manage, placement: Placement, client: PlacementClient
) -> None:
    (one, its_uuid), (two, other_uuid), (gone, gone_uuid) = (a_node(bench, client) for _ in range(3))
    right, resized, missing, deleted, moved, lost = (boot(bench, one) for _ in range(6))
    delete(bench, one, deleted)
    migration = move(bench, one, two, moved)
    kept = boot(bench, gone)
    bench.send(command("remove_node", node=gone, force=True))
    unknown = placement.allocate(its_uuid, SMALL)
    allocate(placement, right, {its_uuid: SMALL})
    allocate(placement, resized, {its_uuid: BIG})
    allocate(placement, deleted, {its_uuid: SMALL})
    allocate(placement, migration, {its_uuid: SMALL})
    allocate(placement, moved, {other_uuid: BIG})
    allocate(placement, kept, {gone_uuid: SMALL})
    delete(bench, one, lost)
    allocate(placement, lost, {its_uuid: SMALL, other_uuid: SMALL})
    kinds = {
        (one, resized): "size",
        (one, missing): "missing",
        (one, deleted): "orphaned",
        (one, unknown): "orphaned",
        (one, lost): "orphaned",
        (two, lost): "orphaned",
        (one, migration): "double",
        (gone, kept): "removed_node",
    }
    assert {key: each["finding"] for key, each in audited(manage).items()} == kinds
    dry = audited(manage, "--dry-run")
    assert {key for key, each in dry.items() if each["result"] == "would be removed"} == {
        (one, deleted),
        (one, lost),
    }
    fixed = audited(manage, "--fix", "--grace", "0")
    assert {key for key, each in fixed.items() if each["result"] == "removed"} == {
        (one, deleted),
        (one, lost),
    }
    assert client.consumer_allocations(deleted) is None
    left = client.consumer_allocations(lost)
    assert left is not None
    assert left.providers == {other_uuid: SMALL}
    assert audited(manage).keys() == kinds.keys() - {(one, deleted), (one, lost)}


def test_consumer_that_the_scheduler_has_changed_is_kept(
    bench: LaneBench,
    manage: Manage,
    placement: Placement,
    client: PlacementClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, uuid = a_node(bench, client)
    instance = boot(bench, name)
    delete(bench, name, instance)
    allocate(placement, instance, {uuid: SMALL})
    read = client.consumer_allocations(instance)
    assert read is not None
    client.put_allocations(read)
    monkeypatch.setattr(PlacementClient, "consumer_allocations", lambda *_: read)
    ((_, found),) = audited(manage, name, "--fix", "--grace", "0").items()
    assert found["result"] == "left"
    assert "changed since" in found["explanation"]


def test_audit_without_a_login_says_which_option_is_missing(
    bench: LaneBench, manage: Manage, url: str
) -> None:
    manage.configure(f"[database]\nconnection = {url}\n")
    assert "[placement] auth_type is not set" in manage.complaint("placement", "audit")


def test_audit_by_a_user_who_may_not_read_is_ended(
    bench: LaneBench, manage: Manage, placement: Placement, client: PlacementClient
) -> None:
    a_node(bench, client)
    text = manage.file.read_text()
    manage.file.write_text(text.replace(f"token = {placement.admin}", "token = nobody"))
    assert manage.run("placement", "audit") == 3
    assert "403" in manage.err
    assert "0 of 1 nodes were audited" in manage.err
