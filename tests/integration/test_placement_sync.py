# SPDX-License-Identifier: Apache-2.0
"""A worker tells a real Placement of its nodes: changes, outages, and kills between two requests."""

import signal
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import samples
from tests.integration.daemon import PARTITIONS, Daemon, write_options
from tests.integration.rabbit import connected, publish
from tests.servers import forkserver
from tests.servers.http_traffic import HTTPTraffic
from tests.servers.placement import Placement
from tests.servers.proxy import Proxy
from tracker_worker.core.envelope import encode
from tracker_worker.db import providers
from tracker_worker.db.engine import create_engine
from tracker_worker.db.providers import ProviderState
from tracker_worker.db.tables import LEASES, PROVIDERS
from tracker_worker.domain.partitions import partition_of

KILL_AFTER = """
import os, requests
_send, _sent = requests.Session.send, []
def _killed(self, request, **options):
    response = _send(self, request, **options)
    _sent.append(request)
    if len(_sent) == {number}:
        os.kill(os.getpid(), 9)
    return response
requests.Session.send = _killed
"""
FIRST_SYNC = 6
"""So many requests make the first sync of a node with a child and a new trait."""


class Cloud:
    """One node, of which workers tell Placement through a proxy, and their database."""

    def __init__(self, url: str, database: str, placement: Placement, proxy: Proxy) -> None:
        self.url = url
        self.database = database
        self.placement = placement
        self.proxy = proxy
        self.uuid = str(uuid.uuid4())
        self.node = f"node-{self.uuid}"
        self.engine = create_engine(database)

    def options(self, **more: Any) -> dict[str, Any]:
        """Those of [placement]."""
        options = {
            "enabled": True,
            "auth_type": "admin_token",
            "token": Placement.admin,
            "endpoint": self.proxy.through(self.placement.url),
            "connect_retries": 0,
            "timeout": 5,
        }
        return options | more

    def worker(self, before: str = "", **more: Any) -> Daemon:
        return Daemon(self.url, self.database, before=before, placement=self.options(**more))

    def worker_of(self, partitions: Iterable[int]) -> Daemon:
        """One that does not stand by for other partitions in this test's time."""
        own = {"partitions": ",".join(map(str, partitions)), "standby_delay": 3600}
        return Daemon(self.url, self.database, placement=self.options(), worker=own)

    def holders(self) -> list[int]:
        """The process ids of the workers that have the leases, by partition; 0 where none has."""
        with self.engine.connect() as connection:
            owners = {name: owner.split(":")[1] for name, owner, _ in connection.execute(LEASES.select())}
        return [int(owners.get(f"placement.p{partition}", 0)) for partition in range(PARTITIONS)]

    def upgrade_check(self, directory: Path, **more: Any) -> str:
        """What `upgrade check` says of Placement."""
        groups = {"DEFAULT": {"transport_url": self.url}, "database": {"connection": self.database}}
        file = write_options(directory / "check.conf", groups | {"placement": self.options(**more)})
        printed = forkserver.run("status", "--config-file", file, "upgrade", "check").stdout
        _, _, rest = printed.partition("| Check: Placement")
        return " ".join(rest.partition("| Check:")[0].replace("|", " ").split())

    def report(self, **more: Any) -> None:
        """Publish a report of the node; it need not be taken yet."""
        report = samples.a_report(self.uuid, self.node, **more)
        with connected(self.url) as client:
            body = encode("update_available_resource", {"node": self.node, "resources": report})
            publish(client, [body], partition=partition_of(self.node, PARTITIONS))

    def remove(self) -> None:
        with connected(self.url) as client:
            body = encode("remove_node", {"node": self.node, "force": True})
            publish(client, [body], partition=partition_of(self.node, PARTITIONS))

    def end_leases(self) -> None:
        """What a worker held that was killed has run out."""
        with self.engine.begin() as connection:
            connection.execute(LEASES.delete())

    def child(self, name: str) -> dict[str, Any]:
        """A provider below the node; names are unique in all of Placement."""
        inventories = {"SRIOV_NET_VF": {"total": 8}}
        return {"name": f"{self.node}_{name}", "inventories": inventories, "traits": ["CUSTOM_PHYSNET"]}

    def state(self) -> ProviderState | None:
        with self.engine.connect() as connection:
            return next(iter(providers.states(connection, [self.node])), None)

    def is_synced(self) -> bool:
        state = self.state()
        return state is not None and state.changed_at is None and state.synced_at is not None

    def tree(self) -> dict[str, Any]:
        """The generation-free contents of the providers of the tree, by name."""
        found = self.placement.request("GET", f"/resource_providers?in_tree={self.uuid}")
        return {
            row["name"].removeprefix(f"{self.node}_"): self._contents(row["uuid"])
            for row in found["resource_providers"]
        }

    def _contents(self, provider: str) -> dict[str, Any]:
        path = f"/resource_providers/{provider}"
        inventories = self.placement.request("GET", f"{path}/inventories")["inventories"]
        return {
            "totals": {name: inventory["total"] for name, inventory in inventories.items()},
            "traits": set(self.placement.request("GET", f"{path}/traits")["traits"]),
        }


@pytest.fixture
def cloud(vhost_url: str, database_url: str, placement: Placement) -> Iterator[Cloud]:
    with Proxy(placement.port, HTTPTraffic) as proxy:
        made = Cloud(vhost_url, database_url, placement, proxy)
        yield made
        made.engine.dispose()


def totals(cloud: Cloud) -> dict[str, int]:
    found: dict[str, int] = cloud.tree()[cloud.node]["totals"]
    return found


def test_a_node_is_told_at_once_and_a_restart_asks_for_nothing(cloud: Cloud) -> None:
    with cloud.worker() as worker:
        worker.wait_until_it_consumes()
        cloud.report(vcpus=8)
        worker.wait_for(cloud.is_synced, "Placement is not told")
        assert totals(cloud)["VCPU"] == 8
        asked = cloud.proxy.commits
        cloud.report(vcpus=12)
        worker.wait_for(lambda: cloud.is_synced() and totals(cloud)["VCPU"] == 12, "the change is not told")
        assert cloud.proxy.commits == asked + 1
    with cloud.worker() as worker:
        worker.wait_until_it_consumes()
        cloud.report(vcpus=16)
        worker.wait_for(lambda: cloud.is_synced() and totals(cloud)["VCPU"] == 16, "the change is not told")
        assert cloud.proxy.commits == asked + 2


def test_the_worker_that_gets_the_commands_of_a_partition_syncs_its_nodes(cloud: Cloud) -> None:
    """Before its first command, a worker that is there already does: it may be an idle partition."""
    own = partition_of(cloud.node, PARTITIONS)
    others = [each for each in range(PARTITIONS) if each != own]
    with cloud.worker_of(others) as first:
        first.wait_until_it_consumes()
        first.wait_for(lambda: cloud.holders() == [first.process.pid] * PARTITIONS, "it has not begun")
        with cloud.worker_of([own]) as second:
            second.wait_until_it_consumes()
            cloud.report(vcpus=8)
            cloud.end_leases()  # Which that of the idle partition does by itself.
            second.wait_for(lambda: cloud.holders()[own] == second.process.pid, "it does not take over")
            second.wait_for(cloud.is_synced, "Placement is not told")


def test_a_removed_node_is_deleted(cloud: Cloud) -> None:
    with cloud.worker() as worker:
        worker.wait_until_it_consumes()
        cloud.report(providers=[cloud.child("pf-1")])
        worker.wait_for(cloud.is_synced, "Placement is not told")
        assert set(cloud.tree()) == {cloud.node, "pf-1"}
        cloud.remove()
        worker.wait_for(lambda: cloud.state() is None, "its row is not deleted")
    assert cloud.tree() == {}


def test_the_upgrade_check_names_who_writes_besides_and_who_may_not_write(
    cloud: Cloud, tmp_path: Path
) -> None:
    assert cloud.upgrade_check(tmp_path).startswith("Result: Success")
    with cloud.engine.begin() as connection:
        row = {"node": cloud.node, "foreign_provider": cloud.node}
        connection.execute(PROVIDERS.insert(), [row])
    said = cloud.upgrade_check(tmp_path)
    assert said.startswith("Result: Warning")
    assert "Somebody else changes the providers node-" in said
    assert "Result: Failure" in cloud.upgrade_check(tmp_path, token="nobody")
    said = cloud.upgrade_check(tmp_path, endpoint="http://127.0.0.1:1")
    assert said.startswith("Result: Warning")
    assert "No node can be synced, placement_unavailable" in said
    said = cloud.upgrade_check(tmp_path, endpoint=f"{cloud.placement.url}/elsewhere")
    assert said.startswith("Result: Failure")
    assert "placement_wrong_endpoint" in said
    assert "enabled is false" in cloud.upgrade_check(tmp_path, enabled=False)


def test_an_outage_loses_no_change(cloud: Cloud) -> None:
    with cloud.worker(timeout=1) as worker:
        worker.wait_until_it_consumes()
        cloud.report(vcpus=8)
        worker.wait_for(cloud.is_synced, "Placement is not told")
        cloud.proxy.freeze()
        cloud.report(vcpus=12)
        worker.wait_for_line("Placement cannot be used")
        cloud.proxy.thaw()
        worker.wait_for(lambda: cloud.is_synced() and totals(cloud)["VCPU"] == 12, "the change is not told")
        worker.wait_for_line("Placement answers again")


@pytest.mark.parametrize("number", range(1, FIRST_SYNC + 1))
def test_a_worker_that_is_killed_between_two_requests_leaves_nothing_behind(
    cloud: Cloud, number: int
) -> None:
    with cloud.worker(KILL_AFTER.format(number=number)) as worker:
        worker.wait_until_it_consumes()
        cloud.report(vcpus=8, traits=["CUSTOM_GOLD"], providers=[cloud.child("pf-1")])
        assert worker.wait() == -signal.SIGKILL
    cloud.end_leases()
    with cloud.worker() as worker:
        worker.wait_until_it_consumes()
        cloud.report(vcpus=8, traits=["CUSTOM_SILVER"], providers=[cloud.child("pf-2")])
        worker.wait_for(lambda: cloud.is_synced() and "pf-2" in cloud.tree(), "Placement is not told")
    tree = cloud.tree()
    assert set(tree) == {cloud.node, "pf-2"}
    assert tree[cloud.node]["totals"]["VCPU"] == 8
    assert tree[cloud.node]["traits"] >= {"CUSTOM_SILVER", "COMPUTE_NODE"}
    assert "CUSTOM_GOLD" not in tree[cloud.node]["traits"]
    assert tree["pf-2"] == {"totals": {"SRIOV_NET_VF": 8}, "traits": {"CUSTOM_PHYSNET"}}
