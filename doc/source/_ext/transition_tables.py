# SPDX-License-Identifier: Apache-2.0
"""The transition table as reStructuredText: a figure of scenarios, and one table for each command.

Without Sphinx, so that the tests compare what is shown with what the rules decide.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tracker_worker.domain.transitions import TABLE, Action, Label, Source, State, Transition, transition

ROLES = (Source.I, Source.N, Source.O)
NOTHING: State = (Label.NONE, Label.NONE, Label.NONE)
RUNNING: State = (Label.OTHER, Label.NONE, Label.NONE)
CLAIMS = (Action.INSTANCE_CLAIM, Action.MOVE_CLAIM, Action.CLAIM_PCI_DEVICES)
"""What may be refused."""

_SUFFIX = {Label.NONE: "", Label.M: "(M)", Label.OTHER: "", Label.DEVICES: "(devices)"}
_NEW_LABEL = {
    Action.INSTANCE_CLAIM: Label.OTHER,
    Action.MOVE_CLAIM: Label.M,
    Action.CLAIM_PCI_DEVICES: Label.DEVICES,
}
_NEW = {
    Source.ARRIVED: "I is adopted as the instance reports itself, with the label M",
    Source.RETURNED: "I is adopted as the instance reports itself, without a label",
    Source.RESIZED: "I takes the size that the instance reports, and the label M",
}
_OF_DEVICES = {
    Action.ALLOCATE_PCI_DEVICES: "devices of its claims that are claimed become allocated",
    Action.UNCLAIM_PCI_DEVICES: "devices of its claims are free again",
}


def state_after(action: Action, state: State) -> State:
    """Return what is held after a command; after a claim, where a new one was granted."""
    row = transition(action, state)
    here, incoming, outgoing = (
        _label(action, source, state, old) for source, old in zip(row.after, state, strict=True)
    )
    return here, incoming, outgoing


def _label(action: Action, source: Source, state: State, old: Label) -> Label:
    if source in ROLES:
        return state[ROLES.index(source)]
    if source is Source.CLAIMED:
        keeps = action is Action.CLAIM_PCI_DEVICES and old is not Label.NONE
        return old if keeps else _NEW_LABEL[action]
    labels = {Source.NONE: Label.NONE, Source.ARRIVED: Label.M, Source.RESIZED: Label.M}
    return labels.get(source, Label.OTHER)


def outcomes(action: Action, row: Transition) -> tuple[str, ...]:
    """Return the outcomes that a row may have, the usual one first."""
    if action in CLAIMS:
        return "granted", "refused"
    if action in _OF_DEVICES:
        return "applied", "ignored"
    moved = [
        source is not role and not (source is Source.NONE and Label.NONE in label)
        for source, role, label in zip(row.after, ROLES, row.before, strict=True)
    ]
    if any(moved):
        return ("applied",)
    may_change = row.states or row.after != ROLES
    return ("applied", "ignored") if may_change else ("ignored",)


def before_text(row: Transition) -> str:
    """Return what has to be held for a row."""
    parts = [_held_text(role, label) for role, label in zip(ROLES, row.before, strict=True)]
    return ", ".join(filter(None, parts)) or "anything"


def _held_text(role: Source, label: Label) -> str:
    if Label.NONE in label and Label.M in label and Label.OTHER in label:
        return "" if Label.DEVICES in label else f"no {role}(devices)"
    if label == ~Label.NONE:
        return f"{role}"
    if label == ~Label.M:
        return f"no {role}(M)"
    names = {Label.NONE: "no {}", Label.M: "{}(M)", Label.OTHER: "{}(other)", Label.DEVICES: "{}(devices)"}
    return " or ".join(name.format(role) for each, name in names.items() if each in label)


def effect_text(action: Action, row: Transition) -> str:
    """Return what a row does to the claims."""
    return "; ".join(_effects(action, row)) or "nothing"


def _effects(action: Action, row: Transition) -> Iterator[str]:
    if action in _OF_DEVICES:
        yield _OF_DEVICES[action]
    for role, source, label in zip(ROLES, row.after, row.before, strict=True):
        if source in ROLES and source is not role:
            yield f"{source} becomes {role}"
        elif source not in ROLES and source is not Source.NONE:
            yield _new_text(action, role, source, label)
    for role, source, label in zip(ROLES, row.after, row.before, strict=True):
        replaced = source in (Source.CLAIMED, Source.RESIZED)
        if label != Label.NONE and role not in row.after and not replaced:
            yield f"{role} is released, if held" if label & Label.NONE else f"{role} is released"
    if row.states:
        yield "I takes the instance's states"
    if row.devices:
        yield "I takes the devices of N"


def _new_text(action: Action, role: Source, source: Source, label: Label) -> str:
    if source in _NEW:
        return _NEW[source]
    if action is Action.CLAIM_PCI_DEVICES:
        return f"{role} takes the devices" if label != Label.NONE else f"{role} has the devices alone"
    return (
        f"{role} is claimed" if label == Label.NONE else f"{role} is claimed: the same, or one in its place"
    )


def tables() -> list[str]:
    """Return the lines of one table for each command."""
    return [line for action in TABLE for line in table(action)]


def table(action: Action) -> list[str]:
    """Return the lines of the table of a command."""
    lines = [
        f".. list-table:: {action}",
        f"   :name: transitions-{action.name.lower().replace('_', '-')}",
        "   :header-rows: 1",
        "   :widths: 24 40 16 20",
        "",
        *_cells("held before", "what happens", "outcome", "when"),
    ]
    for row in TABLE[action]:
        lines += _cells(
            before_text(row), effect_text(action, row), " or ".join(outcomes(action, row)), row.why
        )
    return [*lines, ""]


def _cells(first: str, *others: str) -> list[str]:
    return [f"   * - {first}", *(f"     - {text}".rstrip() for text in others)]


class Scenario(NamedTuple):
    """What happens to one instance on one node, command after command."""

    title: str
    start: State
    actions: tuple[Action, ...]
    claim: str = "resize_claim"
    """The claim of a move that is shown."""


SCENARIOS = (
    Scenario("a boot, and the end", NOTHING, (Action.INSTANCE_CLAIM, Action.UPDATE_USAGE, Action.REMOVE)),
    Scenario("a boot that fails", NOTHING, (Action.INSTANCE_CLAIM, Action.ABORT_INSTANCE_CLAIM)),
    Scenario("a resize, at the source", RUNNING, (Action.START_MOVE, Action.DROP_MOVE_CLAIM_AT_SOURCE)),
    Scenario("a resize, at the destination", NOTHING, (Action.MOVE_CLAIM, Action.FINISH_MOVE)),
    Scenario(
        "a resize that is reverted, at the source", RUNNING, (Action.START_MOVE, Action.FINISH_REVERT_MOVE)
    ),
    Scenario(
        "a resize that is reverted, at the destination",
        NOTHING,
        (Action.MOVE_CLAIM, Action.FINISH_MOVE, Action.DROP_MOVE_CLAIM_AT_DEST),
    ),
    Scenario(
        "a resize within the node",
        RUNNING,
        (Action.MOVE_CLAIM, Action.START_MOVE, Action.FINISH_MOVE, Action.DROP_MOVE_CLAIM_AT_SOURCE),
    ),
    Scenario(
        "a resize within the node that is reverted",
        RUNNING,
        (
            Action.MOVE_CLAIM,
            Action.START_MOVE,
            Action.FINISH_MOVE,
            Action.DROP_MOVE_CLAIM_AT_DEST,
            Action.FINISH_REVERT_MOVE,
        ),
    ),
    Scenario(
        "a live migration or an evacuation, at the source", RUNNING, (Action.DROP_MOVE_CLAIM_AT_SOURCE,)
    ),
    Scenario(
        "a live migration with devices, at the destination",
        NOTHING,
        (Action.MOVE_CLAIM, Action.CLAIM_PCI_DEVICES, Action.FINISH_MOVE),
        "live_migration_claim",
    ),
    Scenario(
        "an evacuation to here that fails",
        NOTHING,
        (Action.MOVE_CLAIM, Action.DROP_MOVE_CLAIM),
        "rebuild_claim",
    ),
)


def state_text(state: State) -> str:
    """Return a state as the figure shows it."""
    held = [
        f"{role}{_SUFFIX[label]}" for role, label in zip(ROLES, state, strict=True) if label is not Label.NONE
    ]
    return " + ".join(held) or "nothing"


def steps(scenario: Scenario) -> Iterator[tuple[Action, State]]:
    """Yield the commands of a scenario, each with what is held after it."""
    state = scenario.start
    for action in scenario.actions:
        state = state_after(action, state)
        yield action, state


def figure() -> list[str]:
    """Return the lines of the figure: each scenario from above to below."""
    lines = [".. code-block:: text", ""]
    for scenario in SCENARIOS:
        lines += [f"   {scenario.title}", "", f"      {state_text(scenario.start)}"]
        for action, state in steps(scenario):
            lines.append(f"        |  {scenario.claim if action is Action.MOVE_CLAIM else action}")
            lines.append(f"      {state_text(state)}")
        lines.append("")
    return lines
