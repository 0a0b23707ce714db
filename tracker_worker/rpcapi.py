# SPDX-License-Identifier: Apache-2.0
"""The worker's client: what a compute manager imports. One method a command.

Claims and get_node are calls; everything else is a cast with `at_least_once`, so that a command that no
queue takes raises oslo_messaging.MessageUndeliverable instead of being lost. Every command is stamped
with an event id and with its origin (this client and its counter). Arguments are plain dicts in the forms
of the design, section 6.
"""

import itertools
import uuid
from typing import Any

import oslo_messaging

from tracker_worker.domain.commands import VERSION
from tracker_worker.domain.partitions import partition_of, server_of

TOPIC = "tracker"
EXMODS = ["tracker_worker.exceptions", "oslo_messaging.rpc.dispatcher"]

Json = dict[str, Any]


class TrackerAPI:
    """Client of the workers. Thread-safe; exchange and partitions must be the workers'.

    `context` is the request's context (a dict or an oslo.context object with to_dict); of it only the
    request id reaches the worker's tables. Raises tracker_worker.exceptions from calls, and
    oslo.messaging's own errors.
    """

    def __init__(
        self, transport: Any, *, exchange: str = "tracker", partitions: int = 16, timeout: int = 60
    ) -> None:
        target = oslo_messaging.Target(exchange=exchange, topic=TOPIC, version=VERSION)
        self._client = oslo_messaging.get_rpc_client(
            transport,
            target,
            timeout=timeout,
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )
        self._partitions = partitions
        self._source = str(uuid.uuid4())
        self._counter = itertools.count(1)

    def call(self, context: Json, method: str, node: str, **args: Any) -> Json:
        """Send any command and return its reply {outcome, reason?, claim?, sequence}."""
        reply: Json = self._prepared(node).call(_plain(context), method, **self._stamped(node, args))
        return reply

    def cast(self, context: Json, method: str, node: str, **args: Any) -> None:
        """Send any command without waiting for its outcome."""
        self._prepared(node).cast(_plain(context), method, **self._stamped(node, args))

    def update_available_resource(self, context: Json, node: str, resources: Json, **args: Any) -> None:
        """The hypervisor's view; with `instances` (and `migrations`, `as_of`, `startup`) an audit."""
        self.cast(context, "update_available_resource", node, resources=resources, **args)

    def instance_claim(self, context: Json, node: str, instance: Json, **args: Any) -> Json:
        """A boot or unshelve wants room. Raises ComputeResourcesUnavailable."""
        return self.call(context, "instance_claim", node, instance=instance, **args)

    def resize_claim(
        self, context: Json, node: str, instance: Json, flavor: Json, migration: Json, **args: Any
    ) -> Json:
        """A resize or cold migration to this node wants room. Raises ComputeResourcesUnavailable."""
        return self.call(
            context, "resize_claim", node,
            instance=instance, flavor=flavor, migration=migration, **args,
        )  # fmt: skip

    def live_migration_claim(
        self, context: Json, node: str, instance: Json, migration: Json, **args: Any
    ) -> Json:
        """A live migration to this node wants room. Raises ComputeResourcesUnavailable."""
        return self.call(
            context, "live_migration_claim", node, instance=instance, migration=migration, **args
        )

    def rebuild_claim(self, context: Json, node: str, instance: Json, migration: Json, **args: Any) -> Json:
        """An evacuation to this node wants room. Raises ComputeResourcesUnavailable."""
        return self.call(context, "rebuild_claim", node, instance=instance, migration=migration, **args)

    def abort_instance_claim(self, context: Json, node: str, instance_uuid: str) -> None:
        """The boot failed."""
        self.cast(context, "abort_instance_claim", node, instance_uuid=instance_uuid)

    def drop_move_claim(
        self, context: Json, node: str, instance_uuid: str, migration_uuid: str | None = None
    ) -> None:
        """The move to here was aborted or rolled back."""
        self.cast(
            context, "drop_move_claim", node,
            instance_uuid=instance_uuid, migration_uuid=migration_uuid,
        )  # fmt: skip

    def start_move(self, context: Json, node: str, instance_uuid: str, migration_uuid: str) -> None:
        """Source: handed over, keep room for a revert."""
        self.cast(
            context, "start_move", node,
            instance_uuid=instance_uuid, migration_uuid=migration_uuid,
        )  # fmt: skip

    def finish_move(
        self, context: Json, node: str, instance: Json, migration_uuid: str | None = None
    ) -> None:
        """Destination: the instance has landed."""
        self.cast(context, "finish_move", node, instance=instance, migration_uuid=migration_uuid)

    def drop_move_claim_at_source(
        self, context: Json, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Source: confirmed; or a live migration or evacuation has left."""
        self.cast(
            context, "drop_move_claim_at_source", node,
            instance_uuid=instance_uuid, migration_uuid=migration_uuid,
        )  # fmt: skip

    def drop_move_claim_at_dest(
        self, context: Json, node: str, instance_uuid: str, migration_uuid: str
    ) -> None:
        """Destination: reverted."""
        self.cast(
            context, "drop_move_claim_at_dest", node,
            instance_uuid=instance_uuid, migration_uuid=migration_uuid,
        )  # fmt: skip

    def finish_revert_move(self, context: Json, node: str, instance: Json, migration_uuid: str) -> None:
        """Source: the instance is back after a revert."""
        self.cast(context, "finish_revert_move", node, instance=instance, migration_uuid=migration_uuid)

    def update_usage(self, context: Json, node: str, instance: Json) -> None:
        """A new vm_state or task_state; in a removable state, released."""
        self.cast(context, "update_usage", node, instance=instance)

    def build_failed(self, context: Json, node: str) -> None:
        """One more failed build in a row."""
        self.cast(context, "build_failed", node)

    def build_succeeded(self, context: Json, node: str) -> None:
        """No failed builds in a row."""
        self.cast(context, "build_succeeded", node)

    def set_service_status(self, context: Json, node: str, disabled: bool) -> None:
        """The compute service was enabled or disabled."""
        self.cast(context, "set_service_status", node, disabled=disabled)

    def remove_node(self, context: Json, node: str, host: str | None = None, force: bool = False) -> None:
        """The node is no longer tracked."""
        self.cast(context, "remove_node", node, host=host, force=force)

    def get_node(self, context: Json, node: str) -> Json:
        """Return the node view. Raises NodeNotFound."""
        return self.call(context, "get_node", node)

    def _prepared(self, node: str) -> Any:
        return self._client.prepare(server=server_of(partition_of(node, self._partitions)))

    def _stamped(self, node: str, args: Json) -> Json:
        origin = {"source": self._source, "sequence": next(self._counter)}
        return {"event_id": str(uuid.uuid4()), "origin": origin, **args, "node": node}


def _plain(context: Any) -> Json:
    """Return a request context as the dict that goes on the wire."""
    plain: Json = context if isinstance(context, dict) else context.to_dict()
    return plain
