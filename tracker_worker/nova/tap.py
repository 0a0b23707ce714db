# SPDX-License-Identifier: Apache-2.0
"""Nova's ResourceTracker, which also casts what it did.

Each tap has the name and the arguments of the method that it runs around; the table is in hooks.py.
Taps of the tracker run in Nova's lock (COMPUTE_RESOURCE_SEMAPHORE): the casts have the order of the changes.
"""

from typing import Any, ClassVar

from nova.compute import resource_tracker, vm_states
from nova.compute import utils as compute_utils

from tracker_worker.nova import conversion
from tracker_worker.nova.cast_queue import CastQueue, Job
from tracker_worker.nova.conversion import Json, given
from tracker_worker.nova.private_apis import context_of
from tracker_worker.nova.tapping import Tap


def _not_installed() -> CastQueue:
    raise RuntimeError("This tracker has no client: installation.install gives it one")


trackers: "dict[str, TapResourceTracker]" = {}
"""The newest tracker of each host in this process, for hooks that are on neither tracker nor manager."""


class TapResourceTracker(resource_tracker.ResourceTracker):  # type: ignore[misc]
    """Nova's tracker, and what its taps remember.

    `moves` has the migration of each instance on a move that Nova names only where the move begins.
    `starting` has the nodes of which no audit was cast in full since the start.
    """

    new_casts: ClassVar[Any] = staticmethod(_not_installed)

    def __init__(self, host: str, driver: Any, reportclient: Any = None) -> None:
        super().__init__(host, driver, reportclient=reportclient)
        self.casts = self.new_casts()
        self.moves: dict[str, str] = {}
        self.starting: set[str] = set()
        self._last: dict[str, Json] = {}
        self._seen: set[str] = set()
        self._audited: set[str] = set()
        trackers[host] = self

    def converted(self, instance: Any) -> Json:
        """Return an instance; what Nova has not loaded is as in its last conversion."""
        self._seen.add(instance.uuid)
        last = self._last.get(instance.uuid)
        backed = self._is_volume_backed(instance, last)
        self._last[instance.uuid] = conversion.instance(instance, volume_backed=backed, last=last)
        return self._last[instance.uuid]

    def forget(self, uuid: str) -> None:
        """Drop what is remembered of an instance that has left."""
        self._last.pop(uuid, None)
        self.moves.pop(uuid, None)

    def remember_move(self, uuid: str, migration: str) -> None:
        """Remember the migration of an instance until it has arrived or left, or audits name neither."""
        self._seen.add(uuid)
        self.moves[uuid] = migration

    def audited(self, node: str, moving: set[str]) -> None:
        """Forget instances that no audit has read, and no tap has met, since each node was audited last.

        `moving` has the instances of the audit's migrations. This finds what has left in a way without a tap,
        and what a refused claim has converted.
        """
        self._seen |= moving
        self._audited.add(node)
        if self._audited >= set(self.compute_nodes):
            for uuid in {*self._last, *self.moves, *self.is_bfv} - self._seen:
                self.forget(uuid)
                self.is_bfv.pop(uuid, None)
            self._seen, self._audited = set(), set()

    def held(self, uuid: str, node: str) -> list[str]:
        """Return the addresses of the node's devices that an instance holds."""
        tracker = self.pci_tracker_of(node)
        devices = () if tracker is None else tracker.pci_devs
        return conversion.addresses(device for device in devices if given(device, "instance_uuid") == uuid)

    def pci_tracker_of(self, node: str) -> Any:
        """Return Nova's tracker of the node's devices. Nova has one, for the first node of a host."""
        known = self.compute_nodes.get(node)
        tracker = self.pci_tracker
        return tracker if tracker and known and tracker.node_id == known.id else None

    def pci_node(self) -> str | None:
        """Return the node whose devices Nova tracks."""
        return next((node for node in self.compute_nodes if self.pci_tracker_of(node)), None)

    def after_audit(self, node: str) -> Job:
        """Return what the sender thread does after it has sent an audit. Runs in Nova's lock."""
        return lambda api: None

    def _is_volume_backed(self, instance: Any, last: Json | None) -> bool:
        uuid = instance.uuid
        if uuid not in self.is_bfv:
            if last is not None:
                return bool(last["volume_backed"])
            # Nova's cache: its tracker does not ask the database again.
            self.is_bfv[uuid] = compute_utils.is_volume_backed_instance(context_of(instance), instance)
        return bool(self.is_bfv[uuid])


def instance_claim(
    tracker: TapResourceTracker,
    context: Any,
    instance: Any,
    nodename: str,
    allocations: Any,
    limits: Any = None,
) -> Tap:
    """A boot or an unshelve was granted."""
    yield
    claimed = tracker.converted(instance) | {"pci_devices": tracker.held(instance.uuid, nodename)}
    args = _limited({"instance": claimed, "decided": True}, limits)
    tracker.casts.cast(plain(context), "instance_claim", nodename, **args)


def resize_claim(
    tracker: TapResourceTracker,
    context: Any,
    instance: Any,
    flavor: Any,
    nodename: str,
    migration: Any,
    allocations: Any,
    image_meta: Any = None,
    limits: Any = None,
) -> Tap:
    """A resize or a cold migration was granted."""
    claim = yield
    args = _move_claim(tracker, instance, conversion.flavor(flavor), claim, limits)
    args["flavor"] = args["migration"]["new_flavor"]
    if image_meta:
        args["image_properties"] = conversion.image_properties(image_meta)
    tracker.casts.cast(plain(context), "resize_claim", nodename, **args)


def live_migration_claim(
    tracker: TapResourceTracker,
    context: Any,
    instance: Any,
    nodename: str,
    migration: Any,
    limits: Any,
    allocs: Any,
) -> Tap:
    """A live migration was granted."""
    claim = yield
    args = _move_claim(tracker, instance, conversion.flavor(instance.flavor), claim, limits)
    tracker.casts.cast(plain(context), "live_migration_claim", nodename, **args)


def rebuild_claim(
    tracker: TapResourceTracker,
    context: Any,
    instance: Any,
    nodename: str,
    allocations: Any,
    limits: Any = None,
    image_meta: Any = None,
    migration: Any = None,
) -> Tap:
    """An evacuation was granted."""
    claim = yield
    args = _move_claim(tracker, instance, conversion.flavor(instance.flavor), claim, limits)
    tracker.casts.cast(plain(context), "rebuild_claim", nodename, **args)


def abort_instance_claim(tracker: TapResourceTracker, context: Any, instance: Any, nodename: str) -> Tap:
    """A boot has failed."""
    yield
    tracker.casts.cast(plain(context), "abort_instance_claim", nodename, instance_uuid=instance.uuid)
    tracker.forget(instance.uuid)


def drop_move_claim(
    tracker: TapResourceTracker,
    context: Any,
    instance: Any,
    nodename: str,
    flavor: Any = None,
    prefix: str = "new_",
) -> Tap:
    """A move to here has failed."""
    tracked = tracker.tracked_migrations.get(instance.uuid)
    migration = tracker.moves.get(instance.uuid) if tracked is None else tracked.uuid
    yield
    of_migration = {} if migration is None else {"migration_uuid": migration}
    uuid = instance.uuid
    tracker.casts.cast(plain(context), "drop_move_claim", nodename, instance_uuid=uuid, **of_migration)
    if instance.host != tracker.host:
        tracker.forget(uuid)


def drop_move_claim_at_source(
    tracker: TapResourceTracker, context: Any, instance: Any, migration: Any
) -> Tap:
    """A resize or a cold migration was confirmed."""
    yield
    cast_move(tracker, context, "drop_move_claim_at_source", migration.source_node, migration)
    if migration.dest_compute != tracker.host:
        tracker.forget(migration.instance_uuid)


def drop_move_claim_at_dest(tracker: TapResourceTracker, context: Any, instance: Any, migration: Any) -> Tap:
    """A resize or a cold migration was reverted."""
    yield
    cast_move(tracker, context, "drop_move_claim_at_dest", migration.dest_node, migration)
    if migration.source_compute != tracker.host:
        tracker.forget(migration.instance_uuid)


def update_usage(tracker: TapResourceTracker, context: Any, instance: Any, nodename: str) -> Tap:
    """An instance has another state."""
    yield
    if nodename is not None:
        tracker.casts.cast(plain(context), "update_usage", nodename, instance=tracker.converted(instance))
    if instance.vm_state == vm_states.DELETED:
        tracker.forget(instance.uuid)


def finish_evacuation(tracker: TapResourceTracker, instance: Any, node: str | None, migration: Any) -> Tap:
    """An evacuated instance has landed. After a rebuild in place there is no migration."""
    yield
    if node is not None and migration is not None:
        finish_move(tracker, {}, node, instance, migration.uuid)


def build_failed(tracker: TapResourceTracker, nodename: str) -> Tap:
    """A build has failed."""
    yield
    tracker.casts.cast({}, "build_failed", nodename)


def build_succeeded(tracker: TapResourceTracker, nodename: str) -> Tap:
    """A build has succeeded."""
    yield
    tracker.casts.cast({}, "build_succeeded", nodename)


def remove_node(tracker: TapResourceTracker, nodename: str) -> Tap:
    """A node is gone, or another host has taken it over: with `host`, the worker ignores the command then."""
    yield
    tracker.casts.remove_node(nodename, tracker.host)


def claim_pci_devices(
    tracker: TapResourceTracker, context: Any, pci_requests: Any, instance_numa_topology: Any
) -> Tap:
    """Devices were claimed for an attachment or a live migration."""
    taken = yield
    node, requests = tracker.pci_node(), conversion.pci_requests(pci_requests)
    if node is not None and requests:
        cast_devices(tracker, context, node, pci_requests.instance_uuid, requests, taken)


def unclaim_pci_devices(tracker: TapResourceTracker, context: Any, pci_device: Any, instance: Any) -> Tap:
    """One device was freed."""
    yield from _freed(tracker, context, instance.uuid)


def allocate_pci_devices_for_instance(tracker: TapResourceTracker, context: Any, instance: Any) -> Tap:
    """The claimed devices of an instance are in use."""
    claimed = tracker.pci_tracker.claims.get(instance.uuid)
    yield
    node = tracker.pci_node()
    if claimed and node is not None:
        uuid = instance.uuid
        tracker.casts.cast(plain(context), "allocate_pci_devices", node, instance_uuid=uuid)


def free_pci_device_allocations_for_instance(tracker: TapResourceTracker, context: Any, instance: Any) -> Tap:
    """All devices in use of an instance were freed."""
    yield from _freed(tracker, context, instance.uuid)


def free_pci_device_claims_for_instance(tracker: TapResourceTracker, context: Any, instance: Any) -> Tap:
    """All claimed devices of an instance were freed."""
    yield from _freed(tracker, context, instance.uuid)


def _move_claim(
    tracker: TapResourceTracker, instance: Any, new_flavor: Json, claim: Any, limits: Any
) -> Json:
    """Return the arguments of a granted claim of a move. Nova has put what it chose into the context."""
    chosen, migration = instance.migration_context, claim.migration
    converted = tracker.converted(instance)
    requests = conversion.pci_requests(chosen.new_pci_requests)
    moved = conversion.migration(
        migration, old_flavor=converted["flavor"], new_flavor=new_flavor, node=instance.node
    )
    topology = conversion.numa_topology(claim.claimed_numa_topology)
    moved |= {} if topology is None else {"new_numa_topology": topology}
    moved["new_pci_devices"] = conversion.addresses(chosen.new_pci_devices or ())
    args = {
        "instance": {name: value for name, value in converted.items() if name != "pci_requests"},
        "migration": moved,
        "pci_requests": requests or [],
        "decided": True,
    }
    return _limited(args, limits)


def _limited(args: Json, limits: Any) -> Json:
    converted = conversion.limits(limits)
    return args if converted is None else args | {"limits": converted}


def finish_move(
    tracker: TapResourceTracker, context: Any, node: str, instance: Any, migration: str | None
) -> None:
    """Cast that a move has landed; `migration` is its uuid."""
    of_migration = {} if migration is None else {"migration_uuid": migration}
    converted = tracker.converted(instance)
    tracker.casts.cast(plain(context), "finish_move", node, instance=converted, **of_migration)


def cast_move(tracker: TapResourceTracker, context: Any, method: str, node: str, migration: Any) -> None:
    """Cast a step of a move that takes the instance from this host or hands it over."""
    args = {"instance_uuid": migration.instance_uuid, "migration_uuid": migration.uuid}
    tracker.casts.cast(plain(context), method, node, **args)


def cast_devices(
    tracker: TapResourceTracker, context: Any, node: str, uuid: str, requests: list[Json], taken: Any
) -> None:
    """Cast which devices Nova has taken for requests, in the order of these."""
    devices = [device.address for device in taken]
    args = {"instance_uuid": uuid, "pci_requests": requests, "pci_devices": devices}
    tracker.casts.cast(plain(context), "claim_pci_devices", node, **args)


def _freed(tracker: TapResourceTracker, context: Any, uuid: str) -> Tap:
    """Cast which devices of an instance a method has freed: Nova may free more than its caller names."""
    node = tracker.pci_node()
    before = [] if node is None else tracker.held(uuid, node)
    yield
    freed = [] if node is None else sorted({*before}.difference(tracker.held(uuid, node)))
    if freed:
        args = {"instance_uuid": uuid, "addresses": freed}
        tracker.casts.cast(plain(context), "unclaim_pci_devices", node, **args)


def plain(context: Any) -> Json:
    """Return the part of a request's context that leaves the process."""
    request = getattr(context, "request_id", None)
    return {"request_id": request} if isinstance(request, str) else {}
