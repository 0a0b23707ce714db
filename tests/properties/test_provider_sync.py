# SPDX-License-Identifier: Apache-2.0
"""Random provider trees: whatever fails, is killed or changed by others, a sync brings what is desired."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake_placement import FailingAt, Killed, NoFaults
from tests.provider_world import ProviderWorld
from tracker_worker.placement.sync import Sync, in_flight

STABLE = settings(derandomize=True, database=None, deadline=None)

chances = st.randoms(use_true_random=False)


def test_sync_converges_from_any_earlier_state(examples: Callable[[int], int]) -> None:
    """What others have stays, and a second push sends nothing: ProviderWorld.check."""

    @settings(STABLE, max_examples=examples(500))
    @given(chance=chances, steps=st.integers(1, 12))
    def check(chance: Random, steps: int) -> None:
        ProviderWorld(chance).run(steps)

    check()


def test_sync_converges_after_a_kill_at_any_request(examples: Callable[[int], int]) -> None:
    """From the state before a change to that after it, with what was stored before the push and without."""

    @settings(STABLE, max_examples=examples(150))
    @given(chance=chances, carried_out=st.booleans(), noted_down=st.booleans())
    def check(chance: Random, carried_out: bool, noted_down: bool) -> None:
        seed = chance.getrandbits(32)
        number = 1
        while _is_killed(Random(seed), number, carried_out, noted_down):
            number += 1

    check()


def _is_killed(chance: Random, number: int, carried_out: bool, noted_down: bool) -> bool:
    """Whether a push has so many requests that the one of this number is killed."""
    world = ProviderWorld(chance)
    world.change()
    world.store(world.sync.push(world.desired, world.known).known)
    world.change()
    before = world.known
    if noted_down:
        world.store(in_flight(world.desired, before))
    world.placement.faults = FailingAt(number, Killed(), carried_out)
    try:
        world.sync.push(world.desired, before)
    except Killed:
        world.placement.faults = NoFaults()
        world.sync = Sync(world.placement)
        world.converge()
        return True
    return False


def test_a_kill_is_tried_at_requests_of_a_first_and_of_a_later_sync() -> None:
    """The property above is not empty."""
    kills = 0
    while _is_killed(Random(3), kills + 1, carried_out=True, noted_down=True):
        kills += 1
    assert kills >= 5
    with pytest.raises(Killed):
        _killed_at_once()


def _killed_at_once() -> None:
    world = ProviderWorld(Random(3))
    world.change()
    world.placement.faults = FailingAt(1, Killed(), carried_out=False)
    world.sync.push(world.desired, world.known)
