# SPDX-License-Identifier: Apache-2.0
"""What channels may hold of a budget, and which limits fit the sizes of their messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.bus.rabbit.windows import Limits, MemoryBudget, Window

FULL = 8


def channels_of(
    limit: int, channels: int, fixed_prefetch: bool = False, limits: Limits | None = None
) -> tuple[MemoryBudget, list[Window]]:
    """A budget, and windows on it."""
    budget = MemoryBudget(limit, channels)
    made = [Window(budget, FULL, fixed_prefetch=fixed_prefetch, limits=limits) for _ in range(channels)]
    return budget, made


def windows(
    fixed_prefetch: bool = False, limits: Limits | None = None
) -> tuple[MemoryBudget, Window, Window]:
    """A budget, and two windows on it; the share is 500."""
    budget, (one, other) = channels_of(1000, 2, fixed_prefetch, limits)
    return budget, one, other


def fill(window: Window, *sizes: int) -> None:
    for size in sizes:
        assert window.admit(size)


def test_messages_are_taken_until_the_budget_of_all_channels_is_used() -> None:
    budget, one, other = windows()
    fill(one, 600)
    fill(other, 400)
    assert not one.admit(1)
    assert (budget.used, one.refuses, other.refuses) == (1000, True, False)


def test_refused_channel_takes_nothing_more_until_it_is_opened_again() -> None:
    """The next one, that fits, would overtake."""
    _, one, other = windows()
    fill(one, 600)
    assert not one.admit(401)
    assert not one.admit(1)
    fill(other, 400)


def test_message_larger_than_the_budget_is_taken_alone() -> None:
    budget, one, other = windows()
    fill(one, 5000)
    assert not other.admit(1)
    assert not other.has_room()
    one.release(5000)
    assert other.has_room()
    assert budget.used == 0


def test_channel_above_its_share_gets_a_prefetch_that_fits() -> None:
    _, one, other = windows()
    fill(one, *[120] * FULL)
    fill(other, 10)
    assert (one.is_greedy(), one.narrower()) == (True, Limits(4))
    assert not other.is_greedy()


def test_channel_with_a_fixed_prefetch_gets_a_limit_of_bytes() -> None:
    """A quorum queue would hand out in another order what is returned to it twice."""
    budget, one, other = windows(fixed_prefetch=True)
    fill(one, *[125] * FULL)
    assert not other.admit(1)
    assert (one.is_greedy(), one.narrower()) == (True, Limits(FULL, 500))
    again = one.reopen(one.narrower())
    fill(again, *[125] * 4)
    assert not again.admit(1)
    assert not again.is_greedy()
    assert budget.used == 500


def test_limit_of_bytes_lets_one_larger_message_through() -> None:
    _, one, _ = windows(fixed_prefetch=True, limits=Limits(FULL, 500))
    fill(one, 700)
    assert not one.admit(1)


def test_refused_channel_gets_the_prefetch_that_fits_its_share() -> None:
    """However little it held when others had used the budget up."""
    _, one, other = windows()
    fill(other, 1000)
    assert not one.admit(100)
    assert one.narrower() == Limits(5)


def test_refusal_always_narrows_the_window() -> None:
    """With the same window it would be refused again, and all that it holds sent again."""
    _, one, other = windows(limits=Limits(5))
    fill(other, 700)
    fill(one, 100, 100, 100)
    assert not one.admit(100)
    assert (one.narrower(), one.is_greedy()) == (Limits(3), False)


def test_window_of_one_message_waits_for_room_and_gives_nothing_up() -> None:
    _, one, other = windows(limits=Limits(1))
    fill(one, 900)
    assert not other.admit(900)
    assert (other.narrower(), other.has_room(), one.is_greedy()) == (Limits(1), False, False)
    one.release(900)
    assert other.has_room()


@pytest.mark.parametrize(("held", "used", "room"), [(250, 750, True), (251, 500, False), (200, 751, False)])
def test_refused_channel_asks_again_when_it_gains_more_than_it_gives_up(
    held: int, used: int, room: bool
) -> None:
    """Half a share: all that it has not settled is sent again for it."""
    _, one, other = windows()
    fill(one, held)
    fill(other, used, 1000 - held - used)
    assert not one.admit(1)
    other.release(1000 - held - used)
    assert one.has_room() is room


def test_channel_that_is_opened_again_gives_back_what_it_held() -> None:
    budget, one, other = windows()
    fill(one, 100, 200)
    fill(other, 200)
    one.release(100)
    again = one.reopen(Limits(3))
    assert (budget.used, again.limits, again.narrow) == (200, Limits(3), True)


@pytest.mark.parametrize("limits", [Limits(2), Limits(FULL, 500)])
def test_narrow_window_widens_once_a_full_one_would_have_fitted_and_it_is_empty(limits: Limits) -> None:
    _, one, _ = windows(limits=limits)
    for size in (*[400] * FULL, *[60] * FULL):
        assert not one.may_widen()
        fill(one, size)
        assert not one.may_widen()
        one.release(size)
    assert one.may_widen()


def test_full_window_is_not_widened() -> None:
    _, one, _ = windows()
    for _ in range(FULL):
        fill(one, 1)
        one.release(1)
    assert not one.may_widen()


@given(
    st.booleans(),
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 900), st.booleans()), max_size=60),
)
def test_budget_is_exceeded_by_nothing_but_a_message_alone(
    fixed_prefetch: bool, limit: int, steps: list[tuple[int, int, bool]]
) -> None:
    budget, channels = channels_of(limit, 3, fixed_prefetch)
    held: list[list[int]] = [[] for _ in channels]
    for number, size, settles in steps:
        window = channels[number]
        if settles and held[number]:
            window.release(held[number].pop())
        elif window.admit(size):
            held[number].append(size)
        elif window.has_room() or window.is_greedy():
            narrower = window.narrower()
            if fixed_prefetch:
                assert narrower == Limits(FULL, budget.share)
            else:
                assert narrower.prefetch in (1, *range(window.limits.prefetch))
            channels[number], held[number] = window.reopen(narrower), []
        everything = [size for sizes in held for size in sizes]
        assert budget.used == sum(everything)
        assert budget.used <= limit or len([size for size in everything if size]) == 1


def test_refused_channel_with_a_fixed_prefetch_waits_until_what_it_refused_fits_behind_the_rest() -> None:
    """Found by a review: opened again with the same limits it took, and refused, the same for ever."""
    _, one, _ = windows(fixed_prefetch=True, limits=Limits(FULL, 500))
    fill(one, 200)
    assert not one.admit(350)
    assert not one.has_room()
    one.release(200)
    assert one.has_room()
    again = one.reopen(one.narrower())
    fill(again, 350)


def test_event_that_is_held_for_days_does_not_stop_a_channel_with_a_fixed_prefetch() -> None:
    """The node of the event is broken: it is not settled before an operator has rebuilt the node."""
    _, one, other = windows(fixed_prefetch=True)
    fill(one, 10)
    fill(other, 600, 380)
    assert not one.admit(20), "the other channel has the memory"
    assert not one.has_room()
    other.release(600)
    assert one.has_room()
    again = one.reopen(one.narrower())
    fill(again, 10, 20, 30)
    assert not again.refuses


def test_channel_with_a_fixed_prefetch_waits_while_others_have_the_memory_for_all_that_comes_again() -> None:
    _, one, other = windows(fixed_prefetch=True)
    fill(one, 200)
    fill(other, 500, 300)
    assert not one.admit(290)
    other.release(300)
    assert one.has_room()
    fill(other, 100)
    assert not one.has_room(), "200 and 290 do not fit beside 600"
