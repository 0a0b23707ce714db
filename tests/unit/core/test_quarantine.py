# SPDX-License-Identifier: Apache-2.0
"""Which redelivered events run alone, in which order, and which wait."""

import pytest

from tests.unit.core.deliveries import Came
from tracker_worker.core.delivery import Delivery
from tracker_worker.core.quarantine import NO_ATTEMPTS, Attempts, isolate_suspects

MOST = 3
LAST = Attempts(MOST - 1)


def came(name: str, partition: int = 0) -> Came:
    return Came(name.encode(), partition)


A, B, C = came("a"), came("b"), came("c")
ELSEWHERE = came("elsewhere", partition=1)


def text_of(delivery: Delivery) -> str:
    assert isinstance(delivery.body, bytes)
    return delivery.body.decode()


def parts(*counted: tuple[Came, Attempts]) -> list[tuple[list[str], Attempts]]:
    return [([text_of(each) for each in part], attempts) for part, attempts in isolate_suspects(counted)]


def test_attempts_are_ordered_by_their_number_then_by_decoding() -> None:
    ordered = [NO_ATTEMPTS, Attempts(1), Attempts(1, decoded=True), Attempts(2)]
    assert sorted(ordered[::-1]) == ordered


def test_next_attempt_keeps_that_the_event_was_decoded() -> None:
    assert NO_ATTEMPTS.begin() == Attempts(1)
    assert NO_ATTEMPTS.begin().decode().begin() == Attempts(2, decoded=True)


def test_events_without_attempts_run_together() -> None:
    assert parts((A, NO_ATTEMPTS), (B, NO_ATTEMPTS), (ELSEWHERE, NO_ATTEMPTS)) == [
        (["a", "b", "elsewhere"], NO_ATTEMPTS)
    ]


def test_suspect_runs_alone_and_partition_order_is_kept() -> None:
    suspect = Attempts(1)
    assert parts((A, NO_ATTEMPTS), (B, suspect), (C, NO_ATTEMPTS)) == [
        (["a"], NO_ATTEMPTS),
        (["b"], suspect),
        (["c"], NO_ATTEMPTS),
    ]


def test_two_suspects_with_equal_attempts_do_not_run_together() -> None:
    suspect = Attempts(1)
    assert parts((A, suspect), (B, suspect)) == [(["a"], suspect), (["b"], suspect)]


def test_partition_of_a_suspect_runs_last() -> None:
    assert [part for part, _ in parts((A, Attempts(1)), (ELSEWHERE, NO_ATTEMPTS))] == [["elsewhere"], ["a"]]


def test_partition_with_most_attempts_runs_at_the_end() -> None:
    counted = [(came("2", 2), Attempts(2)), (came("1", 1), Attempts(1)), (came("0", 0), NO_ATTEMPTS)]
    assert [part for part, _ in parts(*counted)] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("begun", [0, 1, MOST])
def test_next_attempt_is_not_the_last(begun: int) -> None:
    """What is over the limit already is parked, not run."""
    assert not Attempts(begun).leave_one(MOST)


def test_next_attempt_is_the_last() -> None:
    assert LAST.leave_one(MOST)


def test_first_attempt_is_not_deferred_where_it_is_the_last_one_too() -> None:
    """[worker] max_attempts = 1: nothing would ever run in the first seconds of a worker."""
    assert not NO_ATTEMPTS.leave_one(1)
