# SPDX-License-Identifier: Apache-2.0
"""What channels may hold of a budget, and which prefetch fits the sizes of their messages."""

from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.bus.windows import MemoryBudget, Window

FULL = 8


def windows(limit=1000, channels=2, prefetch=FULL):
    budget = MemoryBudget(limit, channels)
    return budget, *(Window(budget, prefetch, FULL) for _ in range(channels))


def test_messages_are_taken_until_the_budget_of_all_channels_is_used():
    budget, one, other = windows()
    assert one.admit(600) and other.admit(400)
    assert not one.admit(1)
    assert (budget.used, one.refused) == (1000, 1)


def test_refused_channel_takes_nothing_more_until_it_is_opened_again():
    """The next one, that fits, would overtake."""
    _, one, other = windows()
    one.admit(600)
    one.admit(401)
    assert not one.admit(1)
    assert other.admit(400)


def test_message_larger_than_the_budget_is_taken_alone():
    budget, one, other = windows()
    assert one.admit(5000)
    assert not other.admit(1)
    assert not other.must_reopen
    one.release(5000)
    assert other.must_reopen
    assert budget.used == 0


def test_channel_above_its_share_gets_a_prefetch_that_fits():
    _, one, other = windows()
    for _ in range(FULL):
        one.admit(125)
    other.admit(10)
    assert (one.greedy, one.narrower) == (True, 4)
    assert not other.greedy


def test_refused_channel_gets_the_prefetch_that_fits_its_share():
    """However little it held when others had used the budget up."""
    _, one, other = windows()
    other.admit(1000)
    assert not one.admit(100)
    assert one.narrower == 5


def test_refusal_always_narrows_the_window():
    """With the same window it would be refused again, and all that it holds sent again."""
    _, one, other = windows(prefetch=5)
    other.admit(700)
    for _ in range(3):
        assert one.admit(100)
    assert not one.admit(100)
    assert (one.narrower, one.greedy) == (3, False)


def test_window_of_one_message_waits_for_room_and_gives_nothing_up():
    budget = MemoryBudget(100, 2)
    one, other = Window(budget, 1, FULL), Window(budget, 1, FULL)
    one.admit(90)
    assert not other.admit(90)
    assert (other.narrower, other.must_reopen, one.greedy) == (1, False, False)
    one.release(90)
    assert other.must_reopen


def test_closed_channel_gives_back_what_it_held():
    budget, one, other = windows()
    one.admit(300)
    other.admit(200)
    one.release(100)
    one.close()
    assert budget.used == 200


def test_narrow_window_widens_once_a_full_one_would_have_fitted_and_it_is_empty():
    _, one, _ = windows(prefetch=2)
    for size in (*[400] * FULL, *[60] * FULL):
        assert not one.may_widen
        one.admit(size)
        assert not one.may_widen
        one.release(size)
    assert one.may_widen
    _, full, _ = windows()
    for _ in range(FULL):
        full.admit(1)
        full.release(1)
    assert not full.may_widen


@given(
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 900), st.booleans()), max_size=60),
)
def test_budget_is_exceeded_by_nothing_but_a_message_alone(limit, steps):
    budget = MemoryBudget(limit, 3)
    channels = [Window(budget, FULL, FULL) for _ in range(3)]
    held = [[] for _ in channels]
    for number, size, settles in steps:
        if settles and held[number]:
            channels[number].release(held[number].pop())
        elif channels[number].admit(size):
            held[number].append(size)
        elif channels[number].must_reopen or channels[number].greedy:
            narrower = channels[number].narrower
            assert 1 <= narrower < channels[number].prefetch or narrower == 1
            channels[number].close()
            channels[number], held[number] = Window(budget, narrower, FULL), []
        everything = [size for sizes in held for size in sizes]
        assert budget.used == sum(everything)
        assert budget.used <= limit or len([size for size in everything if size]) == 1
