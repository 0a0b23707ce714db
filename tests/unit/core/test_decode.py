# SPDX-License-Identifier: Apache-2.0
"""Deliveries to events: a command, or the error that the event is parked for."""

import zlib

import pytest

from tests.builders import NODE, an_instance, command
from tests.unit.core.deliveries import PARTITIONS, Came, delivery_of
from tracker_worker.core.decode import attempts_key, decode_event, decode_in_windows, undecoded_event
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.envelope import PING, encode
from tracker_worker.domain.errors import BadMessage, ErrorCode

CLAIM = command("instance_claim", instance=an_instance())


def code_of(delivery: Came) -> ErrorCode | None:
    error = decode_event(delivery, PARTITIONS).error
    return None if error is None else error.code


def test_command_is_decoded_with_its_id_and_its_node() -> None:
    event = decode_event(delivery_of(CLAIM, "event-a"), PARTITIONS)
    assert (event.event_id, event.node, event.method, event.error) == (
        "event-a",
        NODE,
        "instance_claim",
        None,
    )
    assert event.belongs_here
    assert event.cause.instance_uuid == an_instance().uuid


@pytest.mark.parametrize(
    ("delivery", "code"),
    [
        (Came(b"no json"), ErrorCode.MALFORMED_JSON),
        (Came(encode("reboot", {})), ErrorCode.UNKNOWN_METHOD),
        (Came(encode("instance_claim", {"node": NODE})), ErrorCode.MISSING_ARGUMENT),
        (Came(zlib.compress(b"x"), compression="unheard-of"), ErrorCode.UNSUPPORTED_COMPRESSION),
    ],
)
def test_what_is_no_command_has_a_code(delivery: Came, code: ErrorCode) -> None:
    assert code_of(delivery) is code


@pytest.mark.parametrize(
    "partition", [OtherQueue.BARE_TOPIC, (delivery_of(CLAIM).partition + 1) % PARTITIONS]
)
def test_command_from_another_queue_than_its_nodes_does_not_belong_here(partition: int) -> None:
    event = decode_event(delivery_of(CLAIM, partition=partition), PARTITIONS)
    assert (event.belongs_here, event.error and event.error.code) == (False, ErrorCode.WRONG_PARTITION)


def test_dead_lettered_command_says_why_the_broker_gave_it_up() -> None:
    delivery = delivery_of(
        CLAIM, partition=OtherQueue.DEAD_LETTERS, dead_lettered="maxlen in tracker.p0, 1 times"
    )
    error = decode_event(delivery, PARTITIONS).error
    assert error is not None
    assert (error.code, "maxlen in tracker.p0" in error.message) == (ErrorCode.DEAD_LETTERED, True)


def test_ping_is_no_command_and_no_error() -> None:
    event = decode_event(Came(encode(PING, {"anything": 1})), PARTITIONS)
    assert (event.is_ping, event.error, event.command, event.belongs_here) == (True, None, None, False)


def test_body_without_an_id_gets_the_same_one_each_time_it_comes() -> None:
    first, again = (decode_event(Came(b"no json", redelivered=r), PARTITIONS) for r in (False, True))
    assert first.event_id == again.event_id == attempts_key(Came(b"no json"))


def test_undecoded_event_has_nothing_of_its_body() -> None:
    error = BadMessage(ErrorCode.WORKER_DIED, "$", "it kills")
    event = undecoded_event(delivery_of(CLAIM, "event-a"), error)
    assert (event.envelope, event.command, event.node, event.error) == (None, None, None, error)
    assert event.event_id != "event-a"


def test_windows_are_bounded_by_decompressed_bytes() -> None:
    deliveries = [delivery_of(CLAIM) for _ in range(5)]
    size = len(deliveries[0].body)
    windows = list(decode_in_windows(deliveries, PARTITIONS, size + 1))
    assert [len(window) for window in windows] == [2, 2, 1]
    assert [event.delivery for window in windows for event in window] == deliveries
