# SPDX-License-Identifier: Apache-2.0
"""Claim, abort and delete of one instance, in every order in which a broker can hand them out.

A client keeps its own order. Another one is possible with two clients, and when the broker was away: a
command that raised TrackerUnavailable may still lie in a connection that was given up.
"""

from itertools import permutations
from typing import Any

import pytest

from tests.builders import (
    INSTANCE,
    MOVE,
    NODE,
    a_flavor,
    a_migration,
    a_report,
    an_instance,
    command,
    some_resources,
)
from tests.functional.lanes import LaneBench
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.fields import VmState
from tracker_worker.domain.objects import Origin

RESERVE = (0, 512, 0)
HELD = (2, 512 + 2048, 20 * 1024)


def stamped(method: str, number: int, **arguments: Any) -> AnyCommand:
    """A command with the event id and the origin that a client gives it."""
    return command(method, event_id=f"{method}-id", origin=Origin("client", number), **arguments)


def an_audit(**stamps: Any) -> AnyCommand:
    """The node as it was tracked, and no instance on it."""
    resources = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    return a_report([], [], resources=resources, **stamps)


DELETE = stamped("update_usage", 3, instance=an_instance(vm_state="deleted"))
BOOT = {
    "claim": stamped("instance_claim", 1, instance=an_instance()),
    "abort": stamped("abort_instance_claim", 2, instance_uuid=INSTANCE),
    "delete": DELETE,
}
MOVE_HERE = {
    "claim": stamped("resize_claim", 1, instance=an_instance(), flavor=a_flavor(), migration=a_migration()),
    "abort": stamped("drop_move_claim", 2, instance_uuid=INSTANCE, migration_uuid=MOVE),
    "delete": DELETE,
}
ORDERS = [order for some in (2, 3) for order in permutations(BOOT, some) if "claim" in order]
RIGHT = [order for order in ORDERS if order[-1] != "claim"]
WRONG = [order for order in ORDERS if order[-1] == "claim"]


@pytest.fixture(params=[BOOT, MOVE_HERE], ids=["boot", "move"])
def events(request: pytest.FixtureRequest) -> dict[str, AnyCommand]:
    found: dict[str, AnyCommand] = request.param
    return found


@pytest.mark.parametrize("order", RIGHT, ids="-".join)
def test_room_is_free_when_anything_came_after_the_claim(
    bench: LaneBench, events: dict[str, AnyCommand], order: tuple[str, ...]
) -> None:
    bench.track()
    for name in order:
        bench.send(events[name])
    assert bench.used() == RESERVE and bench.claimed() == {}


@pytest.mark.parametrize("order", RIGHT, ids="-".join)
def test_an_event_that_comes_again_later_changes_nothing(
    bench: LaneBench, events: dict[str, AnyCommand], order: tuple[str, ...]
) -> None:
    """The driver publishes again after a lost connection, and so may the caller, under the same id."""
    bench.track()
    for last, name in enumerate(order, 1):
        bench.send(events[name])
        after = bench.used()
        for earlier in order[:last]:
            bench.send(events[earlier])
            bench.send(events[earlier], redelivered=True)
            assert bench.used() == after
    assert bench.used() == RESERVE and bench.claimed() == {}


@pytest.mark.parametrize("order", WRONG, ids="-".join)
def test_a_claim_after_its_abort_or_delete_holds_room_until_the_next_audit(
    bench: LaneBench, events: dict[str, AnyCommand], order: tuple[str, ...]
) -> None:
    bench.track()
    for name in order:
        bench.send(events[name])
    assert bench.used() == HELD
    bench.send(an_audit(origin=Origin("client", 5), as_of=4))
    assert bench.used() == RESERVE and bench.claimed() == {}


def test_an_audit_that_was_read_before_the_claim_leaves_it_to_the_next_one(bench: LaneBench) -> None:
    bench.track()
    for name in ("abort", "delete", "claim"):
        bench.send(BOOT[name])
    bench.send(an_audit(origin=Origin("client", 5), as_of=0))
    assert bench.used() == HELD
    bench.send(an_audit(origin=Origin("client", 7), as_of=6))
    assert bench.used() == RESERVE


def test_a_claim_that_was_given_back_is_not_granted_again_under_its_id(bench: LaneBench) -> None:
    """The answer is the first one, without the room: a claim is sent again as a new one."""
    bench.track()
    first = bench.send(BOOT["claim"])
    bench.send(BOOT["abort"])
    again = bench.send(BOOT["claim"])
    assert again.answer == first.answer and bench.used() == RESERVE
    anew = bench.send(command("instance_claim", instance=an_instance()), "another-id")
    assert anew.outcome == "granted" and bench.used() == HELD


@pytest.mark.parametrize("state", ["active", "stopped"])
def test_a_late_state_of_a_deleted_instance_brings_nothing_back(bench: LaneBench, state: VmState) -> None:
    bench.track(NODE)
    bench.send(BOOT["claim"])
    bench.send(DELETE)
    late = bench.send(command("update_usage", instance=an_instance(vm_state=state)))
    assert late.outcome == "ignored" and bench.used() == RESERVE
