# SPDX-License-Identifier: Apache-2.0
"""The worker's client, for a compute manager, with one method for each command.

Claims and get_node are calls. All other commands are casts, which return once the broker has confirmed them.
The client adds an event id and an origin (its source and a sequence) to every command. Arguments are plain
dicts in the forms of doc/source/user/commands.rst.

Claims are context managers, as in Nova::

    with api.instance_claim(context, node, instance, limits=limits) as claim:
        save(instance)       # host and node, by which an audit finds the instance
        claim.saved()        # audits include the instance from here on, or from the end of the block
        spawn(instance)      # an exception aborts the claim

A change is cast and then saved in one block. An audit takes its snapshot before it reads what it sends::

    with api.change():
        api.update_usage(context, node, deleted)
        save(deleted)

    as_of = api.snapshot()
    api.update_available_resource(context, node, report, instances=read(node), as_of=as_of)
"""

import copy
import logging
import time
import uuid
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import oslo_messaging

from tracker_worker.client.as_of import EventClock, SnapshotGuard
from tracker_worker.client.audit_order import AuditOrder
from tracker_worker.client.connection import Link
from tracker_worker.client.transport import transport_of
from tracker_worker.core.urls import printable_url
from tracker_worker.domain.partitions import DEFAULT_EXCHANGE as DEFAULT_EXCHANGE
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS as DEFAULT_PARTITIONS
from tracker_worker.domain.partitions import EXCHANGE_PATTERN as EXCHANGE_PATTERN
from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.private_apis.oslo_messaging import url_of

LOG = logging.getLogger(__name__)
EXMODS = ["tracker_worker.exceptions", "oslo_messaging.rpc.dispatcher"]

GIVE_BACK_SECONDS = 1.0
"""Seconds that a timed-out claim waits for the broker's confirm of its abort, which is sent in any case."""

Json = dict[str, Any]
_Cast = Callable[[Any, str, Json], None]


class Claim(Json):
    """A granted claim: the worker's reply {outcome, claim, sequence}, and a context manager.

    An exception in the block casts the matching abort or drop, and propagates. What the block has saved must
    be undone before that, in the block or in a `change()` around it.

    `snapshot` stays below the claim until the block ends, or `saved` or `abort` is called, so that no audit
    releases the claim. For a claim that is never entered this lasts ten minutes at most.
    """

    def __init__(self, reply: Json, hold: SnapshotGuard, give_back: Callable[[], None]) -> None:
        super().__init__(reply)
        self._hold = hold
        self._give_back: Callable[[], None] | None = give_back

    def saved(self) -> None:
        """Note that the database shows the claim: audits include it from now on."""
        self._hold.release()

    def abort(self) -> None:
        """Abort the claim, once. If it raises TrackerUnavailable, repeat it or leave it to the next audit."""
        try:
            if self._give_back is not None:
                self._give_back()
                self._give_back = None
        finally:
            self._hold.release()

    def __enter__(self) -> Self:
        self._hold.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                _attempt(self.abort)
        finally:
            self._hold.release()


class TrackerAPI:
    """Client of the workers. Thread-safe; make one for a process, after it has forked.

    `context` is the request's context (a dict or an oslo.context object with to_dict); only its request id
    leaves the process. `exchange` and `partitions` must equal the workers'; the first command compares
    partitions with the broker's queues. `timeout`, in seconds, covers connecting, publishing, the broker's
    confirm, and the reply of a call, which is sent again while it has none. While the broker is down a
    command is retried `retry` times, by default for some 20 seconds, with oslo.messaging's own intervals.

    Commands raise tracker_worker.exceptions; calls also oslo_messaging.MessagingTimeout, and NoSuchMethod or
    UnsupportedVersion if a worker is older. A command that raised TrackerUnavailable may be applied later. No
    other command overtakes it: until its send has ended, commands to the same partition wait for it or are
    not sent. The caller saves the change, and sends the command again with the same event id or leaves the
    correction to the next audit. Do not repeat a claim, make a new one: if the confirm or the reply comes too
    late, the client queues an abort, which the worker processes after the claim. The client waits for the
    confirm of the abort for one more second.

    Raises QueuesNotDurable unless [oslo_messaging_rabbit] has amqp_durable_queues or rabbit_quorum_queue, and
    if it has amqp_auto_delete; UnsupportedCompression for a kombu_compression that workers cannot decompress.
    `url_option` is the caller's own option for the broker's URL, if there is one: errors name it in place of
    [DEFAULT] transport_url and [oslo_messaging_rabbit].

    `broker` is the URL of the transport without users, passwords and parameters.
    """

    def __init__(
        self,
        transport: Any,
        *,
        exchange: str = DEFAULT_EXCHANGE,
        partitions: int = DEFAULT_PARTITIONS,
        timeout: float = 60,
        retry: int = 4,
        url_option: str | None = None,
    ) -> None:
        self.broker = printable_url(str(url_of(transport)))
        new_id, monotonic = (lambda: uuid.uuid4().hex), time.monotonic
        self._link = Link(transport, exchange, partitions, timeout, retry, new_id, monotonic, url_option)
        self._events = EventClock(str(uuid.uuid4()), monotonic)
        self._audits = AuditOrder(timeout, monotonic)

    @classmethod
    def from_conf(
        cls, conf: Any, url: str | None = None, *, url_option: str | None = None, **settings: Any
    ) -> Self:
        """Return a client with its own transport to `url`, by default to [DEFAULT] transport_url.

        `conf` is cfg.CONF or a ConfigOpts of the caller's own; the client registers oslo.messaging's options
        there. `settings` are the constructor's keyword arguments. Raises URLRefused, a ValueError, for a URL
        that cannot be used.
        """
        transport = transport_of(conf, url, url_option, EXMODS)
        return cls(transport, url_option=url_option, **settings)

    def within(self, seconds: float) -> Self:
        """Return this client with a timeout for calls that is no longer than `seconds`, which is above 0."""
        bounded = copy.copy(self)
        bounded._link = self._link.within(seconds)
        return bounded

    def call(self, context: Any, method: str, node: str, **args: Any) -> Json:
        """Send any command and return its reply {outcome, reason?, claim?, sequence}."""
        return self._call(context, method, node, args)

    def cast(self, context: Any, method: str, node: str, **args: Any) -> None:
        """Send any command without waiting for its outcome; return once the broker has confirmed it."""
        self._send(context, method, node, args, self._link.cast)

    def change(self) -> SnapshotGuard:
        """Keep snapshots below all events cast in the block. In the block, cast first, then save.

        Without a block, save first, then cast: an audit between the two applies the change before the cast
        does. In the other order, an audit between the two would revert the cast.
        """
        return self._events.hold("change()")

    def snapshot(self) -> int:
        """Return `as_of` for audits of what is read from now on.

        Call it before reading; the value is valid for all nodes read after the call. It covers the events of
        this client only: audit a node through the client that casts its events.
        """
        return self._events.snapshot()

    def update_available_resource(
        self,
        context: Any,
        node: str,
        resources: Json,
        *,
        instances: list[Json] | None = None,
        migrations: list[Json] | None = None,
        as_of: int | None = None,
        startup: bool = False,
        disabled: bool | None = None,
    ) -> None:
        """Report the hypervisor's resources; with all `instances` and `migrations` of the node, audit it.

        `disabled` is the state of this host's compute service. Without it the node keeps its state, but a
        node that comes from another host becomes enabled: then cast `set_service_status`.

        The worker corrects the claims that differ, except those of instances with events after `as_of`.
        Without `as_of` it corrects all claims, including those that events in flight have changed. If a newer
        audit of the node was sent already, this one is sent as a report only.
        """
        args: Json = {"resources": resources, **_given(disabled=disabled)}
        args |= {"startup": True} if startup else {}
        audit = _given(instances=instances, migrations=migrations, as_of=as_of)
        with self._audits.newest(node, as_of if instances is not None else None) as newest:
            if not newest:
                LOG.info("A newer audit of node %s has been sent: this one is sent as a report", node)
            self.cast(context, "update_available_resource", node, **args, **(audit if newest else {}))

    def instance_claim(
        self,
        context: Any,
        node: str,
        instance: Json,
        *,
        limits: Json | None = None,
        decided: bool = False,
    ) -> Claim:
        """Claim resources for a boot or an unshelve. Raises ComputeResourcesUnavailable.

        Memory, disk and vcpus are tested against `limits` only. A resource without a limit is granted, unless
        the workers have [tracker] capacity_check = capacity.
        """
        undo = "abort_instance_claim", {"instance_uuid": instance["uuid"]}
        args = {"instance": instance, "decided": decided, **_given(limits=limits)}
        return self._claim(context, "instance_claim", node, args, undo)

    def resize_claim(
        self, context: Any, node: str, instance: Json, flavor: Json, migration: Json, **args: Any
    ) -> Claim:
        """Claim resources for a resize or a cold migration to this node. Raises ComputeResourcesUnavailable.

        `args` of the three claims of moves: limits (as for instance_claim), image_properties, pci_requests,
        decided.
        """
        return self._move_claim(context, "resize_claim", node, instance, migration, args | {"flavor": flavor})

    def live_migration_claim(
        self, context: Any, node: str, instance: Json, migration: Json, **args: Any
    ) -> Claim:
        """Claim resources for a live migration to this node. Raises ComputeResourcesUnavailable."""
        return self._move_claim(context, "live_migration_claim", node, instance, migration, args)

    def rebuild_claim(self, context: Any, node: str, instance: Json, migration: Json, **args: Any) -> Claim:
        """Claim resources for an evacuation to this node. Raises ComputeResourcesUnavailable."""
        return self._move_claim(context, "rebuild_claim", node, instance, migration, args)

    def abort_instance_claim(self, context: Any, node: str, instance_uuid: str) -> None:
        """The boot has failed: release the instance's claim."""
        self.cast(context, "abort_instance_claim", node, instance_uuid=instance_uuid)

    def drop_move_claim(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str | None = None
    ) -> None:
        """The move to this node was aborted or rolled back: release its claim."""
        migration = _given(migration_uuid=migration_uuid)
        self.cast(context, "drop_move_claim", node, instance_uuid=instance_uuid, **migration)

    def start_move(self, context: Any, node: str, instance_uuid: str, migration_uuid: str) -> None:
        """Source: the instance was handed over; its claim stays for a revert."""
        self._cast_move(context, "start_move", node, instance_uuid, migration_uuid)

    def finish_move(self, context: Any, node: str, instance: Json, migration_uuid: str | None = None) -> None:
        """Destination: the instance has arrived."""
        self.cast(context, "finish_move", node, instance=instance, **_given(migration_uuid=migration_uuid))

    def drop_move_claim_at_source(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Source: the move was confirmed, or a live migration or evacuation has left: release the claim."""
        self._cast_move(context, "drop_move_claim_at_source", node, instance_uuid, migration_uuid)

    def drop_move_claim_at_dest(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Destination: the move was reverted: release its claim."""
        self._cast_move(context, "drop_move_claim_at_dest", node, instance_uuid, migration_uuid)

    def finish_revert_move(self, context: Any, node: str, instance: Json, migration_uuid: str) -> None:
        """Source: the instance is back after a revert."""
        self.cast(context, "finish_revert_move", node, instance=instance, migration_uuid=migration_uuid)

    def update_usage(self, context: Any, node: str, instance: Json) -> None:
        """Record a new vm_state or task_state. An instance in a removable state is released."""
        self.cast(context, "update_usage", node, instance=instance)

    def claim_pci_devices(
        self,
        context: Any,
        node: str,
        instance_uuid: str,
        pci_requests: list[Json],
        *,
        numa_topology: Json | None = None,
        pci_devices: list[str] | None = None,
    ) -> Json:
        """Claim devices for an attachment or a live migration; the reply's claim lists their request_ids.

        `pci_devices` are addresses that another tracker has taken, in the order of the requests.

        A request_id is granted once: a call that timed out can be repeated. Requests without a request_id are
        the same if their other fields are equal. Raises ComputeResourcesUnavailable.
        """
        args = {"instance_uuid": instance_uuid, "pci_requests": pci_requests}
        given = _given(numa_topology=numa_topology, pci_devices=pci_devices)
        return self.call(context, "claim_pci_devices", node, **args, **given)

    def allocate_pci_devices(
        self, context: Any, node: str, instance_uuid: str, addresses: list[str] | None = None
    ) -> None:
        """Record that claimed devices are in use; without addresses, all of the instance on this node."""
        given = _given(addresses=addresses)
        self.cast(context, "allocate_pci_devices", node, instance_uuid=instance_uuid, **given)

    def unclaim_pci_devices(
        self, context: Any, node: str, instance_uuid: str, addresses: list[str] | None = None
    ) -> None:
        """Release devices; without addresses, all of the instance on this node."""
        given = _given(addresses=addresses)
        self.cast(context, "unclaim_pci_devices", node, instance_uuid=instance_uuid, **given)

    def build_failed(self, context: Any, node: str) -> None:
        """Count one more failed build in a row."""
        self.cast(context, "build_failed", node)

    def build_succeeded(self, context: Any, node: str) -> None:
        """Set the count of failed builds in a row to 0."""
        self.cast(context, "build_succeeded", node)

    def set_service_status(self, context: Any, node: str, disabled: bool) -> None:
        """Record that the compute service was enabled or disabled."""
        self.cast(context, "set_service_status", node, disabled=disabled)

    def remove_node(self, context: Any, node: str, host: str | None = None, force: bool = False) -> None:
        """Stop tracking the node. Ignored if the node belongs to another host than `host`."""
        self.cast(context, "remove_node", node, force=force, **_given(host=host))

    def get_node(self, context: Any, node: str) -> Json:
        """Return the node view. Raises NodeNotFound, NodeBroken."""
        return self.call(context, "get_node", node)

    def _cast_move(self, context: Any, method: str, node: str, instance: str, migration: str) -> None:
        self.cast(context, method, node, instance_uuid=instance, migration_uuid=migration)

    def _move_claim(
        self, context: Any, method: str, node: str, instance: Json, migration: Json, args: Json
    ) -> Claim:
        undo = "drop_move_claim", {"instance_uuid": instance["uuid"], "migration_uuid": migration["uuid"]}
        args |= {"instance": instance, "migration": migration}
        return self._claim(context, method, node, args, undo)

    def _claim(self, context: Any, method: str, node: str, args: Json, undo: tuple[str, Json]) -> Claim:
        """Send a claim; the command `undo` aborts it. Its event id makes a repetition of it do nothing."""
        hold = self._events.hold(f"{method} on node {node}")
        give_back = partial(self._send, context, undo[0], node, undo[1] | {"event_id": str(uuid.uuid4())})
        late = partial(_attempt, partial(give_back, self._link.cast_behind))
        try:
            reply = self._call(context, method, node, args, late)
            return Claim(reply, hold, partial(give_back, self._link.cast))
        except BaseException as error:
            with hold:
                interrupted = not isinstance(error, Exception)
                if interrupted or isinstance(error, oslo_messaging.MessagingTimeout):
                    _attempt(partial(give_back, partial(self._link.cast, within=GIVE_BACK_SECONDS)))
            raise

    def _call(
        self, context: Any, method: str, node: str, args: Json, undo: Callable[[], None] | None = None
    ) -> Json:
        with self._events.hold(method):
            return self._link.call(context, method, self._stamped(node, args), undo)

    def _send(self, context: Any, method: str, node: str, args: Json, cast: _Cast) -> None:
        with self._events.hold(method):
            cast(context, method, self._stamped(node, args))

    def _stamped(self, node: str, args: Json) -> Json:
        return {"event_id": str(uuid.uuid4()), "origin": self._events.origin(), **args, "node": node}


def _attempt(give_back: Callable[[], None]) -> None:
    """Abort a claim while another error propagates: log a failure instead of replacing that error."""
    try:
        give_back()
    except (TrackerWorkerException, oslo_messaging.MessagingException):
        LOG.exception("A claim may not be given back: if so, the next audit of the node releases it")


def _given(**args: Any) -> Json:
    return {name: value for name, value in args.items() if value is not None}
