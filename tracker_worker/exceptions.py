# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the worker and its client. Importable without the worker.

`code` is stable: programs may match on it. An RPC transport needs `allowed_remote_exmods=rpcapi.EXMODS` to
raise the worker's exceptions with their own classes; TrackerAPI.from_conf sets that. The documentation's
table of exceptions is made of the docstrings: what happened, and the way out.
"""


class TrackerWorkerException(Exception):
    """Base class of all errors of the worker and its client. Raised itself if the worker failed to answer a
    question.

    Way out: read the reason in the worker's log. No dead letter is kept.
    """

    code = "error"


class InvalidCommand(TrackerWorkerException):
    """The command is invalid; the text names the field. It is kept as a dead letter, unless it was a
    question.

    Way out: correct the field.
    """

    code = "invalid_command"


class WrongPartition(TrackerWorkerException):
    """The node belongs to another partition. The client sent nothing, or the worker keeps a dead letter.

    Way out: give client and workers the same `[bus] partitions`.
    """

    code = "wrong_partition"


class EventIdReused(TrackerWorkerException):
    """The event id was used before for another command.

    Way out: make ids unique, and send the command again with a new one.
    """

    code = "event_id_reused"


class EventParked(TrackerWorkerException):
    """The worker could not apply the event and keeps it as a dead letter.

    Way out: read the dead letter or the worker's log, remove the cause, and have an operator replay the
    letter.
    """

    code = "event_parked"


class CommandRefused(TrackerWorkerException):
    """The command was understood and refused; the text says why.

    Way out: do what the text says.
    """

    code = "refused"


class ComputeResourcesUnavailable(CommandRefused):
    """The claim was refused; the text says why. Either it does not fit on the node, in Nova's words. Or no
    node can fulfil the request, because the flavor's extra specs or the image's properties are invalid or
    conflict, or a PCI alias is not defined. Or the node is not tracked or not available.

    Way out: if the claim does not fit, try another node. If no node can fulfil the request, correct the
    flavor or the image, or define the alias in `[pci] alias` of the workers. If the node is not tracked or
    not available, report it as available and repeat the claim, or try another node.
    """

    code = "compute_resources_unavailable"


class NodeConflict(CommandRefused):
    """Another node has the uuid of the report, or the node is stored with another uuid.

    Way out: find out which of the two is wrong: the text has both uuids and hosts, or both names. If the
    report is wrong, correct its host. If the stored node is wrong, run `tracker-worker-manage node remove
    NODE`, then report again.
    """

    code = "node_conflict"


class NodeNotFound(TrackerWorkerException):
    """The node is not tracked.

    Way out: report the node: its next `update_available_resource` creates it.
    """

    code = "node_not_found"


class NodeBroken(TrackerWorkerException):
    """The node's ledger cannot be used: its claims and its used amounts disagree. Its events are held.

    Way out: have an operator run `tracker-worker-manage node rebuild NODE`, or send an audit with `startup`.
    """

    code = "ledger_broken"


class TrackerUnavailable(TrackerWorkerException):
    """The broker did not confirm the command within the timeout or the retries. The broker may have received
    the command, or may receive it later. `event_id`, also in the text, is the command's.

    Way out: send the command again with the same event id, or wait for the next audit, which corrects what is
    missing. Do not repeat a claim, make a new one: the client aborts a claim whose confirm comes late.
    """

    code = "tracker_unavailable"

    def __init__(self, text: str, event_id: str | None = None) -> None:
        super().__init__(text)
        self.event_id = event_id


class NoWorker(TrackerUnavailable):
    """The broker has no queue for the node: no worker ever ran with this exchange and these partitions.

    Way out: start a worker with the same `[bus] exchange` and `[bus] partitions`.
    """

    code = "no_worker"


class QueuesNotDurable(TrackerWorkerException):
    """The client's options do not match the workers' durable exchange and queues.

    Way out: change the option that the text names.
    """

    code = "queues_not_durable"


class UnsupportedCompression(TrackerWorkerException):
    """The client is configured for a compression that no worker can decompress.

    Way out: set the option that the text names to one of the values that it lists.
    """

    code = "unsupported_compression"
