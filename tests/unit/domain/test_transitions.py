# SPDX-License-Identifier: Apache-2.0
"""The transition table: it is complete, the rules decide what it says, and the documentation shows it.

`test_moves` has the same transitions written by hand, with sizes and states.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    an_instance,
    claims_of,
    command,
    decided,
    some_resources,
)
from tests.topologies import a_device, a_request
from tests.unit.domain.claiming import MOVE_CLAIMS, NOTHING_PASSES
from tracker_worker.domain.commands import METHODS, AnyCommand
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.moves import held_by, state_of
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.transitions import STATES, TABLE, Action, Label, State, rows_of, transition

DOC = Path(__file__).parents[3] / "doc" / "source"
PAGE = DOC / "user" / "lifecycle.rst"


def the_extension() -> Any:
    """What the documentation imports to show the table."""
    spec = importlib.util.spec_from_file_location("transition_tables", DOC / "_ext" / "transition_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHOWN = the_extension()

METHODS_OF = {action: (action.value,) for action in Action} | {
    Action.MOVE_CLAIM: MOVE_CLAIMS,
    Action.DROP_ANY_MOVE_CLAIM: ("drop_move_claim",),
    Action.REMOVE: ("update_usage",),
}
PAIRS = [
    pytest.param(action, state, id=f"{action.name}-{'-'.join(str(label.name) for label in state)}")
    for action in Action
    for state in STATES
]
# What M and another label are. Without a migration_uuid a command's own label is that of no migration.
LABELS: tuple[tuple[str | None, str | None], ...] = ((MOVE, None), (MOVE, OTHER_MOVE))
LABELS_WITHOUT: tuple[tuple[str | None, str | None], ...] = ((None, OTHER_MOVE),)

OLD: dict[str, Any] = {"vm_state": "active", "task_state": "resize_prep"}
NEW: dict[str, Any] = {"vm_state": "resized", "task_state": None}
SIZES = {Role.INSTANCE: a_flavor(1), Role.INCOMING: a_flavor(2), Role.OUTGOING: a_flavor(3)}
ASKED = a_flavor(4)
DEVICES = [a_device("d1"), a_device("d2"), a_device("d3")]
ELSE = a_claim(uuid=BYSTANDER)


def held(role: Role, label: Label, own: str | None, other: str | None) -> Claim:
    """The claim of a role that a label stands for."""
    if label is Label.DEVICES:
        alone = a_claim(role, None, Flavor(0, 0, 0), project_id="", vm_state="")
        return replace(alone, pci_devices=(HeldDevice("d1", False, None, DEVICES[0]),))
    claim = a_claim(role, own if label is Label.M else other, SIZES[role], **OLD)
    devices = (HeldDevice("d2", False, None, DEVICES[1]),) if role is Role.INSTANCE else ()
    return replace(claim, pci_devices=devices)


def node_in(state: State, own: str | None, other: str | None) -> Node:
    """A node with room, on which the instance holds what a state says, and another instance something."""
    claims = [
        held(role, label, own, other)
        for role, label in zip(Role, state, strict=True)
        if label is not Label.NONE
    ]
    resources = some_resources(vcpus=100, memory_mb=100_000, local_gb=1000, pci_devices=DEVICES)
    return a_node(ELSE, *claims, resources=resources)


def commands_of(
    action: Action, own: str | None, *, in_vain: bool = False, states: Any = NEW
) -> Iterator[AnyCommand]:
    """The commands of an action; `in_vain`: there is no room, or the devices are not held."""
    for method in METHODS_OF[action]:
        size = ASKED if method in ("instance_claim", "live_migration_claim", "rebuild_claim") else a_flavor(9)
        instance = an_instance(flavor=size, **states)
        may_send: dict[str, Any] = {
            "instance": replace(instance, vm_state="deleted") if action is Action.REMOVE else instance,
            "instance_uuid": INSTANCE,
            "flavor": ASKED,
            "migration": a_migration(),
            "migration_uuid": None if action is Action.DROP_ANY_MOVE_CLAIM else own,
            "limits": NOTHING_PASSES if in_vain else None,
            "pci_requests": None,
            "addresses": ["d9"] if in_vain else None,
        }
        if action is Action.CLAIM_PCI_DEVICES:
            may_send["pci_requests"] = [a_request(10 if in_vain else 1, request_id="new")]
        fields = METHODS[method].__struct_fields__
        yield command(method, **{key: may_send[key] for key in fields if key in may_send})


def labels_of(action: Action) -> tuple[tuple[str | None, str | None], ...]:
    """The labels under which an action is tried."""
    return LABELS + LABELS_WITHOUT if action is Action.FINISH_MOVE else LABELS


def expected_outcome(action: Action, state: State) -> str:
    """The outcome of a command whose instance has new states, and whose claim finds room."""
    if action in SHOWN.CLAIMS:
        return "granted"
    if action in (Action.ALLOCATE_PCI_DEVICES, Action.UNCLAIM_PCI_DEVICES):
        has_devices = state[0] is not Label.NONE or Label.DEVICES in state
        return "applied" if has_devices else "ignored"
    changes = transition(action, state).states or SHOWN.state_after(action, state) != state
    return "applied" if changes else "ignored"


def test_each_command_of_an_instance_is_in_the_table() -> None:
    about = {
        method
        for method, kind in METHODS.items()
        if {"instance", "instance_uuid"} & set(kind.__struct_fields__)
    }
    assert {method for action in TABLE for method in METHODS_OF[action]} == about
    assert set(TABLE) == set(Action)


@pytest.mark.parametrize("action", Action)
def test_each_state_has_exactly_one_row(action: Action) -> None:
    assert {state: len(rows_of(action, state)) for state in STATES} == dict.fromkeys(STATES, 1)
    used = [row for state in STATES for row in rows_of(action, state)]
    assert all(row in used for row in TABLE[action]), "a row for no state"


@pytest.mark.parametrize(("action", "state"), PAIRS)
def test_command_leaves_what_its_row_says(action: Action, state: State) -> None:
    for own, other in labels_of(action):
        for each in commands_of(action, own):
            node = node_in(state, own, other)
            assert state_of(held_by(node, INSTANCE), own) == state
            after, decision = decided(node, each)
            assert state_of(held_by(after, INSTANCE), own) == SHOWN.state_after(action, state)
            assert decision.outcome == expected_outcome(action, state)
            assert decision.reason is None
            assert claims_of(after, BYSTANDER) == {"instance": ELSE}
            assert_sum(after)


@pytest.mark.parametrize(("action", "state"), [pair for pair in PAIRS if pair.values[0] in SHOWN.CLAIMS])
def test_refused_claim_changes_nothing_in_any_state(action: Action, state: State) -> None:
    for own, other in LABELS:
        for each in commands_of(action, own, in_vain=True):
            node = node_in(state, own, other)
            after, decision = decided(node, each)
            assert (decision.outcome, decision.changes) == ("refused", ())
            assert decision.reason
            assert after.claims == node.claims


@pytest.mark.parametrize("action", Action)
def test_outcomes_that_are_shown_are_those_that_are_decided(action: Action) -> None:
    seen: dict[int, set[str]] = {number: set() for number in range(len(TABLE[action]))}
    for state in STATES:
        (row,) = rows_of(action, state)
        for own, other in labels_of(action):
            for sent in (NEW, OLD):  # Old ones are those that are held.
                tried = [*commands_of(action, own, states=sent), *commands_of(action, own, in_vain=True)]
                node = node_in(state, own, other)
                seen[TABLE[action].index(row)] |= {decided(node, each)[1].outcome for each in tried}
    assert [sorted(outcomes) for outcomes in seen.values()] == [
        sorted(SHOWN.outcomes(action, row)) for row in TABLE[action]
    ]


@pytest.mark.parametrize("action", Action)
def test_page_has_each_row(action: Action) -> None:
    lines = SHOWN.tables()
    table = SHOWN.table(action)
    assert "\n".join(table) in "\n".join(lines)
    rows = [line.removeprefix("   * - ") for line in table if line.startswith("   * - ")]
    assert rows == ["held before", *(SHOWN.before_text(row) for row in TABLE[action])]
    assert len(set(rows)) == len(rows), "two rows that read the same"


def test_page_shows_the_tables_and_the_scenarios() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    assert ".. transitions::" in lines
    assert ".. scenarios::" in lines


def test_scenarios_that_are_shown_are_those_of_the_rules() -> None:
    for scenario in SHOWN.SCENARIOS:
        node = node_in(scenario.start, MOVE, None)
        for action, state in SHOWN.steps(scenario):
            node, decision = decided(node, next(commands_of(action, MOVE)))
            assert decision.outcome in ("granted", "applied", "ignored")
            assert state_of(held_by(node, INSTANCE), MOVE) == state, (scenario.title, action)
    assert {action for scenario in SHOWN.SCENARIOS for action in scenario.actions} >= {
        Action.INSTANCE_CLAIM, Action.MOVE_CLAIM, Action.START_MOVE, Action.FINISH_MOVE, Action.REMOVE,
        Action.DROP_MOVE_CLAIM_AT_SOURCE, Action.DROP_MOVE_CLAIM_AT_DEST, Action.FINISH_REVERT_MOVE,
    }  # fmt: skip
