# SPDX-License-Identifier: Apache-2.0
"""When a node is synced again after a sync that failed."""

from datetime import datetime

import pytest

from tracker_worker.db.providers import DueProviders
from tracker_worker.domain.node import Node
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    PlacementError,
    PlacementRefused,
    PlacementUnavailable,
)
from tracker_worker.placement.sync import SyncInterrupted
from tracker_worker.worker.provider_task import (
    JITTER,
    MOST_SECONDS,
    ProviderTask,
    interrupted_record,
    longest_wait,
)

NOW = datetime(2026, 11, 22, 12)
REFRESH_IN, RETRY_MAX = 310.0, 30.0
PUSHED, REFRESHED = None, "d" * 64


def due_in(
    cause: PlacementError,
    before: str | None,
    attempts: int = 20,
    refresh_in: float = REFRESH_IN,
    retry_max: float = RETRY_MAX,
) -> float | None:
    changed_at = NOW if before is None else None
    due = DueProviders("node-1", 1, changed_at, NOW, before, None, attempts, None, None, None, NOW)
    task = ProviderTask(due, Node("node-1"), (), REFRESHED, ())
    return interrupted_record(task, SyncInterrupted((), cause), refresh_in, retry_max).due_in


@pytest.mark.parametrize("before", [PUSHED, REFRESHED])
def test_a_node_is_synced_soon_after_the_end_of_a_long_outage(before: str | None) -> None:
    assert due_in(PlacementUnavailable("503"), before) == RETRY_MAX
    assert due_in(PlacementUnavailable("503"), before, attempts=0) == 1.0


def test_a_fight_for_a_provider_is_taken_up_with_longer_pauses() -> None:
    assert due_in(GenerationConflict("409"), PUSHED) == MOST_SECONDS


def test_a_change_that_is_refused_waits_for_a_mark() -> None:
    assert due_in(PlacementRefused("400"), PUSHED) is None


def test_a_refresh_that_is_refused_comes_again() -> None:
    """Else a role that the worker's user lacks for some minutes would end the refreshes of all nodes."""
    assert due_in(PlacementRefused("403"), REFRESHED) == REFRESH_IN


@pytest.mark.parametrize("before", [PUSHED, REFRESHED])
def test_a_name_that_another_provider_has_is_asked_for_again_at_the_next_refresh(before: str | None) -> None:
    assert due_in(DuplicateProvider("409"), before) == REFRESH_IN


@pytest.mark.parametrize(
    "cause", [PlacementUnavailable, GenerationConflict, DuplicateProvider, PlacementRefused]
)
@pytest.mark.parametrize("before", [PUSHED, REFRESHED])
@pytest.mark.parametrize(("refresh", "retry_max"), [(1.0, 30.0), (300.0, 30.0), (86400.0, 1.0), (1.0, 900.0)])
def test_no_node_waits_longer_than_the_longest_wait(
    cause: type[PlacementError], before: str | None, refresh: float, retry_max: float
) -> None:
    """What is due later was written by a clock that has been set back."""
    longest = longest_wait(refresh, retry_max)
    for attempts in (0, 20):
        found = due_in(cause("no"), before, attempts, refresh * max(JITTER), retry_max)
        assert found is None or found <= longest
    assert longest <= 1.1 * max(refresh, retry_max, MOST_SECONDS)
