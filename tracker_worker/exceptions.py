# SPDX-License-Identifier: Apache-2.0
"""What a caller of the worker may catch. Importable without the worker.

`code` is stable and may be matched on. Give `allowed_remote_exmods=rpcapi.EXMODS` to the RPC transport, so
that they are raised as themselves.
"""


class TrackerWorkerException(Exception):
    """Base of all errors that the worker raises in a caller."""

    code = "error"


class InvalidCommand(TrackerWorkerException):
    """The command was not understood and is kept as a dead letter: mend the field that the text names."""

    code = "invalid_command"


class WrongPartition(TrackerWorkerException):
    """The node belongs to another partition: give client and worker the same [bus] partitions."""

    code = "wrong_partition"


class EventIdReused(TrackerWorkerException):
    """The event id was used before for another command: ids must be unique."""

    code = "event_id_reused"


class EventParked(TrackerWorkerException):
    """The worker could not apply the event and keeps it as a dead letter: see its log for the reason."""

    code = "event_parked"


class CommandRefused(TrackerWorkerException):
    """The command was understood and refused; the text says why."""

    code = "refused"


class ComputeResourcesUnavailable(CommandRefused):
    """There is no room for the claim; the text is Nova's."""

    code = "compute_resources_unavailable"


class NodeConflict(CommandRefused):
    """Another node has the uuid, or the name another uuid: remove_node with force, then report again."""

    code = "node_conflict"


class NodeNotFound(TrackerWorkerException):
    """The node is not tracked: its next update_available_resource creates it."""

    code = "node_not_found"
