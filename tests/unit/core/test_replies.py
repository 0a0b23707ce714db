# SPDX-License-Identifier: Apache-2.0
"""What a caller gets for each stored reply."""

from typing import Any

import msgspec
import pytest
from oslo_messaging.rpc.dispatcher import NoSuchMethod, UnsupportedVersion

from tracker_worker import exceptions
from tracker_worker.bus.reply_errors import raised_in_caller
from tracker_worker.core.replies import UnknownMethod, UnknownVersion, answer_to, parked_reply
from tracker_worker.domain.commands import CLAIM_METHODS, METHODS
from tracker_worker.domain.errors import BadMessage, ErrorCode, Refusal

ANSWERS = {
    ErrorCode.MALFORMED_JSON: exceptions.InvalidCommand,
    ErrorCode.MALFORMED_COMPRESSION: exceptions.InvalidCommand,
    ErrorCode.UNSUPPORTED_COMPRESSION: exceptions.InvalidCommand,
    ErrorCode.BAD_ENVELOPE: exceptions.InvalidCommand,
    ErrorCode.MESSAGE_TOO_LARGE: exceptions.InvalidCommand,
    ErrorCode.TOO_DEEP: exceptions.InvalidCommand,
    ErrorCode.UNSUPPORTED_VERSION: UnsupportedVersion,
    ErrorCode.UNKNOWN_METHOD: NoSuchMethod,
    ErrorCode.MISSING_ARGUMENT: exceptions.InvalidCommand,
    ErrorCode.UNKNOWN_ARGUMENT: exceptions.InvalidCommand,
    ErrorCode.WRONG_TYPE: exceptions.InvalidCommand,
    ErrorCode.OUT_OF_RANGE: exceptions.InvalidCommand,
    ErrorCode.INVALID_VALUE: exceptions.InvalidCommand,
    ErrorCode.WRONG_PARTITION: exceptions.WrongPartition,
    ErrorCode.EVENT_ID_REUSED: exceptions.EventIdReused,
    ErrorCode.DEAD_LETTERED: exceptions.EventParked,
    ErrorCode.WORKER_DIED: exceptions.EventParked,
    ErrorCode.DATABASE_REJECTS: exceptions.EventParked,
    ErrorCode.INTERNAL_ERROR: exceptions.EventParked,
}
CLAIMS = ("instance_claim", "resize_claim", "live_migration_claim", "rebuild_claim", "claim_pci_devices")


def stored(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply as SQL gives it back."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(reply))
    return read


@pytest.mark.parametrize(("code", "kind"), ANSWERS.items())
def test_a_parked_event_raises_the_exception_of_its_code(code: ErrorCode, kind: type[Exception]) -> None:
    reply = stored(parked_reply(BadMessage(code, "$.instance.uuid", "the text")))
    answer = answer_to("update_usage", "1.0", reply)
    assert isinstance(answer, Exception)
    assert type(raised_in_caller(answer)) is kind


def test_every_code_that_parks_has_an_exception() -> None:
    """Others park nothing: outcomes, doubtful reports, reasons to hold, notifications that are replaced."""
    others = {
        ErrorCode.NODE_CONFLICT,
        ErrorCode.RESERVE_TOO_LARGE,
        ErrorCode.LEDGER_BROKEN,
        ErrorCode.NOTIFICATION_TOO_LARGE,
        ErrorCode.NOTIFICATION_REFUSED,
    }
    assert ANSWERS.keys() == set(ErrorCode) - others


def test_an_invalid_command_names_code_path_and_reason() -> None:
    reply = stored(parked_reply(BadMessage(ErrorCode.WRONG_TYPE, "$.node", "Expected `str`")))
    assert str(answer_to("get_node", "1.0", reply)) == "wrong_type at $.node: Expected `str`"


def test_an_unknown_method_is_named() -> None:
    reply = stored(parked_reply(BadMessage(ErrorCode.UNKNOWN_METHOD, "$", "")))
    answer = answer_to("reboot", "1.0", reply)
    assert isinstance(answer, UnknownMethod)
    assert answer.method == "reboot"


def test_an_unsupported_version_is_named() -> None:
    reply = stored(parked_reply(BadMessage(ErrorCode.UNSUPPORTED_VERSION, "$", "")))
    answer = answer_to("get_node", "7.3", reply)
    assert isinstance(answer, UnknownVersion)
    assert (answer.version, answer.method) == ("7.3", "get_node")


def test_a_body_without_a_method_has_an_answer_too() -> None:
    reply = stored(parked_reply(BadMessage(ErrorCode.MALFORMED_JSON, "$", "not valid JSON")))
    assert isinstance(answer_to(None, "1.0", reply), exceptions.InvalidCommand)


@pytest.mark.parametrize("outcome", ["applied", "granted", "ignored"])
@pytest.mark.parametrize("method", METHODS)
def test_a_reply_that_is_no_refusal_is_returned_as_it_is(method: str, outcome: str) -> None:
    reply = {"outcome": outcome, "sequence": 3, "claim": {"vcpus": 1}}
    assert answer_to(method, "1.0", stored(reply)) == reply


@pytest.mark.parametrize("method", CLAIMS)
def test_a_refused_claim_raises_with_novas_wording(method: str) -> None:
    reason = "Free memory 3584.00 MB < requested 4096 MB"
    answer = answer_to(method, "1.0", {"outcome": "refused", "reason": reason, "sequence": 2})
    assert type(answer) is exceptions.ComputeResourcesUnavailable
    assert str(answer) == ("Insufficient compute resources: Free memory 3584.00 MB < requested 4096 MB.")


def test_a_refused_report_raises_a_conflict() -> None:
    reason = "node_conflict: uuid u belongs to node other"
    reply = {"outcome": "refused", "reason": reason, "sequence": 2}
    answer = answer_to("update_available_resource", "1.0", reply)
    assert type(answer) is exceptions.NodeConflict
    assert str(answer) == reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Refusal.NO_ROOM, exceptions.ComputeResourcesUnavailable),
        (Refusal.NODE_CONFLICT, exceptions.NodeConflict),
        (Refusal.OTHER, exceptions.CommandRefused),
    ],
)
def test_code_of_a_refusal_decides_its_exception_whatever_the_text_says(
    code: Refusal, kind: type[exceptions.TrackerWorkerException]
) -> None:
    reply = {"outcome": "refused", "code": code.value, "reason": "node_conflict: x", "sequence": 2}
    answer = answer_to("remove_node", "1.0", stored(reply))
    assert (type(answer), kind.code) == (kind, code.value)


def test_list_of_claim_methods_is_the_commands_own() -> None:
    assert set(CLAIMS) == CLAIM_METHODS


def test_another_refusal_raises_with_its_reason() -> None:
    reply = {"outcome": "refused", "reason": "Node n has claims", "sequence": 2}
    answer = answer_to("remove_node", "1.0", reply)
    assert type(answer) is exceptions.CommandRefused
    assert str(answer) == "Node n has claims"


def test_whatever_is_raised_is_allowed_to_cross_the_bus() -> None:
    """oslo.messaging raises in the caller only what lies in allowed_remote_exmods, which rpcapi sets."""
    from tracker_worker.rpcapi import EXMODS

    kinds = {*ANSWERS.values(), exceptions.CommandRefused, exceptions.NodeConflict}
    assert {kind.__module__ for kind in kinds} == set(EXMODS)
