# SPDX-License-Identifier: Apache-2.0
"""The worker's client: what a compute manager imports. One method a command.

Claims and get_node are calls; everything else is a cast that the broker has confirmed on return. Every
command is stamped with an event id and with its origin (this client and its counter). Arguments are plain
dicts in the forms of doc/source/user/commands.rst.

Claims are contexts, as Nova's are::

    with api.instance_claim(context, node, instance, limits=limits) as claim:
        save(instance)       # host and node, by which an audit finds it
        claim.saved()        # audits count it from here on; so does leaving the block
        spawn(instance)      # an exception gives the room back

A change is cast and then saved, in one block, and an audit takes its snapshot before it reads what it sends::

    with api.change():
        api.update_usage(context, node, deleted)
        save(deleted)

    as_of = api.snapshot()
    api.update_available_resource(context, node, report, instances=read(node), as_of=as_of)
"""

import logging
import time
import uuid
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import oslo_messaging
from oslo_config import cfg

from tracker_worker.client.as_of import EventClock, SnapshotGuard
from tracker_worker.client.audit_order import AuditOrder
from tracker_worker.client.connection import Link
from tracker_worker.core.urls import ESCAPES, URLRefused, check_transport_url
from tracker_worker.domain.partitions import DEFAULT_EXCHANGE, DEFAULT_PARTITIONS
from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.private_apis.oslo_messaging import hosts_of

LOG = logging.getLogger(__name__)

EXMODS = ["tracker_worker.exceptions", "oslo_messaging.rpc.dispatcher"]

GIVE_BACK_SECONDS = 1.0
"""How long a claim that timed out waits for the broker to confirm its abort, which is sent all the same."""

Json = dict[str, Any]
_Cast = Callable[[Any, str, Json], None]


class Claim(Json):
    """A granted claim: the worker's reply {outcome, claim, sequence}, and the context in which it is used.

    Leaving the block by an exception casts the matching abort or drop and raises on. What the block saved
    must be undone by then: inside the block, or in a `change()` around it.

    Until the block ends, or `saved` or `abort` is called, `snapshot` stays below the claim, so that no audit
    takes it for a mistake. A claim that is never entered holds it back for ten minutes at most.
    """

    def __init__(self, reply: Json, hold: SnapshotGuard, give_back: Callable[[], None]) -> None:
        super().__init__(reply)
        self._hold = hold
        self._give_back: Callable[[], None] | None = give_back

    def saved(self) -> None:
        """Tell that what audits read shows the claim: they count it from now on."""
        self._hold.release()

    def abort(self) -> None:
        """Give the room back; once more does nothing. After a TrackerUnavailable the next audit does it."""
        give_back, self._give_back = self._give_back, None
        try:
            if give_back is not None:
                give_back()
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

    `context` is the request's context (a dict or an oslo.context object with to_dict); of it only the request
    id leaves the process. `exchange` and `partitions` must be the workers'; the first command compares
    partitions with the broker's queues. A command takes `timeout` seconds at most: to connect, to publish,
    for the broker's confirm, and for the reply of a call. While the broker is away a command is tried `retry`
    times more, for some 20 seconds by default, with oslo.messaging's own intervals.

    Commands raise tracker_worker.exceptions; calls oslo_messaging.MessagingTimeout too, and NoSuchMethod or
    UnsupportedVersion where a worker is older. A command that raised TrackerUnavailable may be applied later.
    Nothing overtakes it: until its send has ended, what goes to the same partition waits for it or is not
    sent. Its caller saves the change, and sends the command again under the same event id or leaves the rest
    to the next audit; the next cast for that instance queues behind it. A claim is not sent again but made
    anew: the client gives it back behind itself when the broker's confirm, or its reply, came too late. (For
    the confirm of that abort it takes a second more.)

    Raises QueuesNotDurable unless [oslo_messaging_rabbit] has amqp_durable_queues or rabbit_quorum_queue, and
    where it has amqp_auto_delete; UnsupportedCompression for a kombu_compression that workers cannot read.
    """

    def __init__(
        self,
        transport: Any,
        *,
        exchange: str = DEFAULT_EXCHANGE,
        partitions: int = DEFAULT_PARTITIONS,
        timeout: float = 60,
        retry: int = 4,
    ) -> None:
        new_id, monotonic = (lambda: uuid.uuid4().hex), time.monotonic
        self._link = Link(transport, exchange, partitions, timeout, retry, new_id, monotonic)
        self._events = EventClock(str(uuid.uuid4()), monotonic)
        self._audits = AuditOrder(timeout, monotonic)

    @classmethod
    def from_conf(cls, conf: Any, url: str | None = None, **settings: Any) -> Self:
        """Return a client on a transport of its own, by default the one of [DEFAULT] transport_url.

        `conf` must be cfg.CONF: oslo.messaging has options there. `settings` are the constructor's. Raises
        URLRefused, a ValueError, for a URL that cannot be parsed.
        """
        option = "[DEFAULT] transport_url" if url is None else "url"
        try:
            transport = oslo_messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=EXMODS)
            check_transport_url(option, url or conf.transport_url)
            _refuse_slashes(option, transport)
        except URLRefused:
            raise
        # All of them quote a part of the password; cfg.Error what stands behind a $.
        except (ValueError, cfg.Error, oslo_messaging.InvalidTransportURL):
            raise URLRefused(f"{option} cannot be parsed: in a password write {ESCAPES}") from None
        return cls(transport, **settings)

    def call(self, context: Any, method: str, node: str, **args: Any) -> Json:
        """Send any command and return its reply {outcome, reason?, claim?, sequence}."""
        return self._call(context, method, node, args)

    def cast(self, context: Any, method: str, node: str, **args: Any) -> None:
        """Send any command without waiting for its outcome; the broker has it when this returns."""
        self._send(context, method, node, args, self._link.cast)

    def change(self) -> SnapshotGuard:
        """Hold snapshots back below everything that is cast in the block: cast in it, then save in it.

        Without a block, save first and cast then: an audit between the two corrects what the cast will find
        done. The other way round it would undo it.
        """
        return self._events.hold("change()")

    def snapshot(self) -> int:
        """Return `as_of` for audits of what is read from now on.

        Take it before reading; the same one serves all nodes that are read after it. It counts the events of
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
        """The hypervisor's view; with `instances`, all of this node, and `migrations` an audit.

        `disabled` is this host's compute service. Without it a node keeps its state, but one that comes from
        another host is enabled: then cast `set_service_status`.

        The worker corrects what differs but leaves alone what was touched after `as_of`; without it, it
        corrects everything, what is under way too. Overtaken by a newer audit of the node, an audit says
        nothing of instances.
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
        """A boot or unshelve wants room. Raises ComputeResourcesUnavailable.

        Memory, disk and vcpus are tested against `limits` alone: what they do not bound is granted, unless
        the workers have [tracker] capacity_check = capacity.
        """
        undo = "abort_instance_claim", {"instance_uuid": instance["uuid"]}
        args = {"instance": instance, "decided": decided, **_given(limits=limits)}
        return self._claim(context, "instance_claim", node, args, undo)

    def resize_claim(
        self, context: Any, node: str, instance: Json, flavor: Json, migration: Json, **args: Any
    ) -> Claim:
        """A resize or cold migration to this node wants room. Raises ComputeResourcesUnavailable.

        `args` of the three claims of moves: limits (as for instance_claim), image_properties, pci_requests,
        decided.
        """
        return self._move_claim(context, "resize_claim", node, instance, migration, args | {"flavor": flavor})

    def live_migration_claim(
        self, context: Any, node: str, instance: Json, migration: Json, **args: Any
    ) -> Claim:
        """A live migration to this node wants room. Raises ComputeResourcesUnavailable."""
        return self._move_claim(context, "live_migration_claim", node, instance, migration, args)

    def rebuild_claim(self, context: Any, node: str, instance: Json, migration: Json, **args: Any) -> Claim:
        """An evacuation to this node wants room. Raises ComputeResourcesUnavailable."""
        return self._move_claim(context, "rebuild_claim", node, instance, migration, args)

    def abort_instance_claim(self, context: Any, node: str, instance_uuid: str) -> None:
        """The boot failed."""
        self.cast(context, "abort_instance_claim", node, instance_uuid=instance_uuid)

    def drop_move_claim(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str | None = None
    ) -> None:
        """The move to here was aborted or rolled back."""
        migration = _given(migration_uuid=migration_uuid)
        self.cast(context, "drop_move_claim", node, instance_uuid=instance_uuid, **migration)

    def start_move(self, context: Any, node: str, instance_uuid: str, migration_uuid: str) -> None:
        """Source: handed over, keep room for a revert."""
        self._cast_move(context, "start_move", node, instance_uuid, migration_uuid)

    def finish_move(self, context: Any, node: str, instance: Json, migration_uuid: str | None = None) -> None:
        """Destination: the instance has landed."""
        migration = _given(migration_uuid=migration_uuid)
        self.cast(context, "finish_move", node, instance=instance, **migration)

    def drop_move_claim_at_source(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Source: confirmed; or a live migration or evacuation has left."""
        self._cast_move(context, "drop_move_claim_at_source", node, instance_uuid, migration_uuid)

    def drop_move_claim_at_dest(
        self, context: Any, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Destination: reverted."""
        self._cast_move(context, "drop_move_claim_at_dest", node, instance_uuid, migration_uuid)

    def finish_revert_move(self, context: Any, node: str, instance: Json, migration_uuid: str) -> None:
        """Source: the instance is back after a revert."""
        self.cast(context, "finish_revert_move", node, instance=instance, migration_uuid=migration_uuid)

    def update_usage(self, context: Any, node: str, instance: Json) -> None:
        """A new vm_state or task_state; in a removable state, released."""
        self.cast(context, "update_usage", node, instance=instance)

    def claim_pci_devices(
        self,
        context: Any,
        node: str,
        instance_uuid: str,
        pci_requests: list[Json],
        *,
        numa_topology: Json | None = None,
    ) -> Json:
        """An attachment or a live migration wants devices; the reply's claim has each with its request_id.

        Those of a request_id are taken once, however often it is asked for: repeat a call that timed out.
        Requests without one are the same when they ask for the same. Raises ComputeResourcesUnavailable.
        """
        args = {"instance_uuid": instance_uuid, "pci_requests": pci_requests}
        return self.call(context, "claim_pci_devices", node, **args, **_given(numa_topology=numa_topology))

    def allocate_pci_devices(
        self, context: Any, node: str, instance_uuid: str, addresses: list[str] | None = None
    ) -> None:
        """Claimed devices are in use; without addresses all that the instance has here."""
        given = _given(addresses=addresses)
        self.cast(context, "allocate_pci_devices", node, instance_uuid=instance_uuid, **given)

    def unclaim_pci_devices(
        self, context: Any, node: str, instance_uuid: str, addresses: list[str] | None = None
    ) -> None:
        """Devices are free again; without addresses all that the instance has here."""
        given = _given(addresses=addresses)
        self.cast(context, "unclaim_pci_devices", node, instance_uuid=instance_uuid, **given)

    def build_failed(self, context: Any, node: str) -> None:
        """One more failed build in a row."""
        self.cast(context, "build_failed", node)

    def build_succeeded(self, context: Any, node: str) -> None:
        """No failed builds in a row."""
        self.cast(context, "build_succeeded", node)

    def set_service_status(self, context: Any, node: str, disabled: bool) -> None:
        """The compute service was enabled or disabled."""
        self.cast(context, "set_service_status", node, disabled=disabled)

    def remove_node(self, context: Any, node: str, host: str | None = None, force: bool = False) -> None:
        """The node is no longer tracked; ignored when it belongs to another host than the one given."""
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
        args = {"instance": instance, "migration": migration, **args}
        return self._claim(context, method, node, args, undo)

    def _claim(self, context: Any, method: str, node: str, args: Json, undo: tuple[str, Json]) -> Claim:
        """Claim; the command `undo` gives the room back."""
        hold = self._events.hold(f"{method} on node {node}")
        give_back = partial(self._send, context, undo[0], node, undo[1])
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


def _refuse_slashes(option: str, transport: Any) -> None:
    """Refuse what oslo.messaging does not escape when it connects to RabbitMQ. Raises URLRefused."""
    for host in hosts_of(transport):
        if "/" in f"{host.username}{host.password}":
            raise URLRefused(
                f"{option}: oslo.messaging cannot connect with a / in a user name or a password, escaped or "
                "not: choose another"
            )


def _attempt(give_back: Callable[[], None]) -> None:
    """Give a claim back while another error is on its way to the caller, which matters more."""
    try:
        give_back()
    except (TrackerWorkerException, oslo_messaging.MessagingException):
        LOG.exception("A claim may not be given back: if so, the next audit of the node releases it")


def _given(**args: Any) -> Json:
    return {name: value for name, value in args.items() if value is not None}
