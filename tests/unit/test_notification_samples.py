# SPDX-License-Identifier: Apache-2.0
"""The samples in doc/notification_samples are what a batch puts into its outbox, to the last character.

Inputs, clock and ids are fixed. `python -m tests.unit.test_notification_samples` writes the samples anew.
"""

# oslo.service binds its threading model when oslo.messaging is first imported; the commands choose it.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.builders import (
    BYSTANDER,
    HOST,
    MOVE,
    NODE,
    OTHER_MOVE,
    SETTINGS,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    a_report,
    an_instance,
    args_of,
    command,
    method_of,
    some_resources,
)
from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import decode_event
from tracker_worker.core.delivery import Answer
from tracker_worker.core.envelope import encode
from tracker_worker.core.notification_body import Header, encode_refused
from tracker_worker.domain.audit import Reason
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.notifications import (
    Notification,
    sync_end_notification,
    sync_error_notification,
)
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.partitions import partition_of
from tracker_worker.placement.errors import PlacementError
from tracker_worker.worker.provider_sync import UNEXPECTED

DOC = Path(__file__).resolve().parents[2] / "doc"
SAMPLES = DOC / "notification_samples"
SCHEMAS = SAMPLES / "schemas"
PARTITIONS = 16
NOW = datetime(2026, 11, 22, 12, 0, 0, 123456)
NEWCOMER = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee"
RESOURCES = some_resources(disk_available_least=80, stats={"hypervisor_load": "low"})
SPAWNING: dict[str, Any] = {"vm_state": "building", "task_state": "spawning"}

Json = dict[str, Any]


class FixedDelivery:
    """One message of the partition that its node belongs to; nobody waits for an answer."""

    redelivered = False
    compression = None
    live = True
    received_at = 0.0
    dead_lettered = None
    partition = partition_of(NODE, PARTITIONS)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def settle(self, answer: Answer) -> None:
        raise AssertionError("a batch answers nothing by itself")


def fixed_ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"00000000-0000-4000-8000-{next(numbers):012}"


def outbox(node: Node, *sent: tuple[str, Json]) -> list[Json]:
    """The notifications of one batch of commands on one node, as they are published."""
    context = BatchContext(
        tracker=SETTINGS,
        partitions=PARTITIONS,
        publisher_id=f"tracker-worker:{HOST}",
        notify=True,
        clock=lambda: NOW,
        new_id=fixed_ids(),
    )
    batch = Batch(Snapshot(receipts={}, nodes={node.name: node}, uuid_owners={}), context)
    for number, (method, args) in enumerate(sent, 1):
        args = args | {"event_id": f"event-{number}"}
        body = encode(method, args, request_id=f"req-{number}")
        batch.apply(decode_event(FixedDelivery(body), PARTITIONS))
    return [json.loads(row.body) for row in batch.transaction().notifications]


def sent(a_command: AnyCommand) -> tuple[str, Json]:
    return method_of(a_command), args_of(a_command)


def a_known_node(*claims: Any) -> Node:
    return a_node(*claims, resources=RESOURCES, sequence=40, usage_sequence=38)


def usage() -> list[Json]:
    """Two events in one batch: one notification, whose cause is the last."""
    boot = an_instance(BYSTANDER, a_flavor(4, 4096, 40), os_type="linux", **SPAWNING)
    claim = command("instance_claim", instance=boot, limits=Limits(memory_mb=16384))
    stopped = command("update_usage", instance=an_instance(vm_state="stopped"))
    return outbox(a_known_node(a_claim()), sent(claim), sent(stopped))


def claim_error() -> list[Json]:
    wanted = an_instance(BYSTANDER, a_flavor(4, 4096, 40), **SPAWNING)
    claim = command("instance_claim", instance=wanted, limits=Limits(memory_mb=4096, vcpu=4))
    return outbox(a_known_node(a_claim()), sent(claim))


def create() -> list[Json]:
    return outbox(Node(NODE), sent(a_report(resources=RESOURCES)))


def delete() -> list[Json]:
    return outbox(a_known_node(), sent(command("remove_node", host=HOST)))


def audit() -> list[Json]:
    """One instance is gone, one was never claimed, one has arrived unheard; a move has no instance."""
    node = a_known_node(a_claim("incoming", MOVE), a_claim(uuid=BYSTANDER))
    landed = an_instance(vm_state="resized")
    moves = [
        a_migration(status="finished", new_flavor=a_flavor()),
        a_migration(OTHER_MOVE, "no-such-instance", status="finished"),
    ]
    facts = a_report([landed, an_instance(NEWCOMER)], moves, resources=RESOURCES)
    return outbox(node, sent(facts))


def event_error() -> list[Json]:
    """A field that no version knows: the event is parked."""
    method, args = sent(command("instance_claim", instance=an_instance(BYSTANDER)))
    args = copy.deepcopy(args)
    args["instance"]["flavor"]["memory_gb"] = 4
    return outbox(a_known_node(a_claim()), (method, args))


def sync(notification: Notification) -> list[Json]:
    """What a sync puts into the outbox: no event is its cause."""
    header = Header(fixed_ids()(), f"tracker-worker:{HOST}", NOW)
    return [json.loads(header.encode(notification))]


def sync_error() -> list[Json]:
    text = "class VGPU has allocations and is reserved as a whole: move its instances away"
    return sync(sync_error_notification(a_known_node(), "inventory_in_use", text))


def sync_end() -> list[Json]:
    return sync(
        sync_end_notification(a_known_node(), "inventory_in_use", "all providers are as they shall be")
    )


STORIES: dict[str, Callable[[], list[Json]]] = {
    "compute_node.usage": usage,
    "compute_node.claim.error": claim_error,
    "compute_node.create": create,
    "compute_node.delete": delete,
    "compute_node.audit": audit,
    "compute_node.event.error": event_error,
    "compute_node.sync.error": sync_error,
    "compute_node.sync.end": sync_end,
}


def built(event_type: str) -> Json:
    """The one message of this type among the messages of its batch."""
    (message,) = (m for m in STORIES[event_type]() if m["event_type"] == event_type)
    return message


def normal(message: Json) -> str:
    """The JSON text whose order of keys means nothing."""
    return json.dumps(message, indent=4, sort_keys=True)


def sample_file(event_type: str) -> Path:
    return SAMPLES / f"{event_type}.json"


def payload_name(event_type: str) -> str:
    name: str = json.loads(sample_file(event_type).read_text())["payload"]["nova_object.name"]
    return name


def schemas() -> dict[str, Json]:
    return {path.name: json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.json"))}


@pytest.fixture
def validator() -> Callable[[str], Any]:
    """Makes the validator of a payload's schema; references name files beside it."""
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    known = schemas()
    resources = [(name, referencing.Resource.from_contents(schema)) for name, schema in known.items()]
    registry = referencing.Registry().with_resources(resources)
    kind = jsonschema.Draft202012Validator
    return lambda name: kind(known[f"{name}.json"], registry=registry)


@pytest.mark.parametrize("event_type", STORIES)
def test_a_sample_is_what_the_worker_publishes(event_type: str) -> None:
    sample = json.loads(sample_file(event_type).read_text())
    assert normal(sample) == normal(built(event_type)), "see the module's docstring"


def test_there_is_a_sample_of_every_type_and_a_schema_of_every_payload() -> None:
    samples = [json.loads(path.read_text()) for path in SAMPLES.glob("*.json")]
    assert {message["event_type"] for message in samples} == STORIES.keys()
    names = {inner.get("nova_object.name") for inner in objects_in(samples)} - {None}
    assert schemas().keys() == {f"{name}.json" for name in names}


@pytest.mark.parametrize("event_type", STORIES)
def test_a_message_has_the_fields_of_messagingv2(event_type: str) -> None:
    message = built(event_type)
    assert message.keys() == {
        "message_id", "publisher_id", "event_type", "priority", "payload", "timestamp", "_unique_id",
    }  # fmt: skip
    assert message["priority"] == ("ERROR" if event_type.endswith(".error") else "INFO")


@pytest.mark.parametrize("event_type", STORIES)
def test_a_payload_is_as_its_schema_says(event_type: str, validator: Callable[[str], Any]) -> None:
    validator(payload_name(event_type)).validate(built(event_type)["payload"])


@pytest.mark.parametrize("stored", [b"\xff", b"{}", None])
def test_a_substitute_for_a_refused_notification_is_as_its_schema_says(
    stored: bytes | None, validator: Callable[[str], Any]
) -> None:
    if stored is None:
        stored = json.dumps(built("compute_node.usage")).encode()
    header = Header("message-1", "tracker-worker:host", NOW)
    _, body = encode_refused(header, "compute_node.usage", NODE, stored, "too long")
    validator("ComputeNodeEventErrorPayload").validate(json.loads(body)["payload"])


@pytest.mark.parametrize("event_type", STORIES)
def test_a_schema_refuses_one_field_more_and_one_less(
    event_type: str, validator: Callable[[str], Any]
) -> None:
    judge = validator(payload_name(event_type))
    for inner in objects_in(payload := built(event_type)["payload"]):
        if "num_instances" in inner:
            continue
        inner["surprise"] = 1
        assert not judge.is_valid(payload)
        del inner["surprise"]
        key, value = inner.popitem()
        assert not judge.is_valid(payload), key
        inner[key] = value
        assert judge.is_valid(payload)


def objects_in(value: Any) -> list[Json]:
    if isinstance(value, list):
        return [found for item in value for found in objects_in(item)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for item in value.values() for found in objects_in(item))]


def test_schemas_name_every_field_and_allow_no_other() -> None:
    for name, schema in schemas().items():
        for path, inner in object_schemas(schema, name):
            if path.endswith(".stats"):
                continue
            if path.endswith(".cpu_pinning"):
                continue
            assert inner["additionalProperties"] is False, path
            # Topologies and devices are in the forms of the commands, which leave out what is not set.
            if not any(part in path for part in (".numa_topology", ".pci_devices")):
                assert sorted(inner["required"]) == sorted(inner["properties"]), path


def object_schemas(schema: Any, path: str) -> Iterator[tuple[str, Json]]:
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from object_schemas(item, f"{path}.{number}")
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        yield path, schema
    for key, value in schema.items():
        yield from object_schemas(value, f"{path}.{key}")


def data_schema(name: str) -> Json:
    schema: Json = schemas()[f"{name}.json"]["properties"]["nova_object.data"]["properties"]
    return schema


def test_schemas_list_the_codes_and_reasons_that_there_are() -> None:
    assert data_schema("ComputeNodeEventErrorPayload")["code"]["enum"] == [c.value for c in ErrorCode]
    assert data_schema("CorrectionPayload")["reason"]["enum"] == list(get_args(Reason))
    of_a_sync = {kind.code for kind in kinds_of(PlacementError)} | {ErrorCode.LEDGER_BROKEN, UNEXPECTED}
    assert set(data_schema("ComputeNodeSyncPayload")["code"]["enum"]) == of_a_sync


def kinds_of(kind: type[PlacementError]) -> Iterator[type[PlacementError]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds_of(each)


def write_samples() -> None:
    for event_type in STORIES:
        sample_file(event_type).write_text(json.dumps(built(event_type), indent=4) + "\n")


if __name__ == "__main__":
    write_samples()
