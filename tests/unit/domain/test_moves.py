# SPDX-License-Identifier: Apache-2.0
"""The transitions of one instance on one node: each command on each combination of roles.

The table below was written by hand, apart from the one that the rules work from
(`test_transitions` compares that one with what is decided in every state). A line is

    command[.option]  what is held before  outcome  what is held afterwards

A claim is role:label before, and role:label:size afterwards. Roles are I, N and O: instance,
incoming, outgoing. Labels are M (the command's migration), K (another one), Q (an older one), -
(none). A size is that of the claim which was I, N or O before (i, n, o), or the command's own (c).
A star says that the claim took the states and the project of the command's instance.

Options: `same` asks for the numbers that are held already (and sends limits that nothing passes),
`full` sends such limits only, `absent` sends no migration, `removable` sends a deleted instance.
Where the roles alone do not say what happens with N(K), the line is marked `silent` and tells why.
"""

from typing import Any, NamedTuple

import pytest

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
from tests.unit.domain.claiming import MOVE_CLAIMS, NOTHING_PASSES
from tracker_worker.domain.commands import METHODS, AnyCommand
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node, assert_sum

TABLE = """
instance_claim                  -        granted  I:-:c*
instance_claim.full             -        refused  -
instance_claim.same             I:-      granted  I:-:i
instance_claim.same             I:K      granted  I:K:i
instance_claim                  I:-      granted  I:-:c*
instance_claim.full             I:-      refused  I:-:i
instance_claim                  N:M      granted  I:-:c* N:M:n
instance_claim.full             N:M      refused  N:M:n
instance_claim                  O:Q      granted  I:-:c* O:Q:o
instance_claim.full             O:Q      refused  O:Q:o
instance_claim.same             I:- N:M  granted  I:-:i N:M:n
instance_claim                  I:- N:M  granted  I:-:c* N:M:n
instance_claim.full             I:- N:M  refused  I:-:i N:M:n
instance_claim.same             I:M O:Q  granted  I:M:i O:Q:o
instance_claim                  I:- O:Q  granted  I:-:c* O:Q:o
instance_claim.full             I:- O:Q  refused  I:-:i O:Q:o
instance_claim                  N:M O:Q  granted  I:-:c* N:M:n O:Q:o
instance_claim.full             N:M O:Q  refused  N:M:n O:Q:o

move_claim                      -        granted  N:M:c*
move_claim.full                 -        refused  -
move_claim                      I:-      granted  I:-:i N:M:c*
move_claim                      I:M      granted  I:M:i N:M:c*
move_claim.full                 I:-      refused  I:-:i
move_claim.same                 N:M      granted  N:M:n
move_claim.same                 N:K      granted  N:M:n
move_claim.same                 N:-      granted  N:M:n
move_claim                      N:M      granted  N:M:c*
move_claim                      N:K      granted  N:M:c*
move_claim.full                 N:K      refused  N:K:n
move_claim                      O:Q      granted  N:M:c* O:Q:o
move_claim.full                 O:Q      refused  O:Q:o
move_claim.same                 I:- N:M  granted  I:-:i N:M:n
move_claim.same                 I:- N:K  granted  I:-:i N:M:n
move_claim                      I:- N:M  granted  I:-:i N:M:c*
move_claim                      I:- N:K  granted  I:-:i N:M:c*
move_claim.full                 I:- N:K  refused  I:-:i N:K:n
move_claim                      I:- O:Q  granted  I:-:i N:M:c* O:Q:o
move_claim.full                 I:- O:Q  refused  I:-:i O:Q:o
move_claim.same                 N:M O:Q  granted  N:M:n O:Q:o
move_claim.same                 N:K O:Q  granted  N:M:n O:Q:o
move_claim                      N:K O:Q  granted  N:M:c* O:Q:o
move_claim.full                 N:K O:Q  refused  N:K:n O:Q:o

abort_instance_claim            -        ignored  -
abort_instance_claim            I:-      applied  -
abort_instance_claim            I:M      applied  -
abort_instance_claim            N:M      ignored  N:M:n
abort_instance_claim            O:Q      ignored  O:Q:o
abort_instance_claim            I:- N:M  applied  N:M:n
abort_instance_claim            I:- O:Q  applied  O:Q:o
abort_instance_claim            N:M O:Q  ignored  N:M:n O:Q:o

drop_move_claim                 -        ignored  -
drop_move_claim                 I:M      ignored  I:M:i
drop_move_claim.absent          I:-      ignored  I:-:i
drop_move_claim                 N:M      applied  -
drop_move_claim                 N:K      ignored  N:K:n
drop_move_claim                 N:-      ignored  N:-:n
drop_move_claim.absent          N:K      applied  -
drop_move_claim.absent          N:-      applied  -
drop_move_claim                 O:M      ignored  O:M:o
drop_move_claim.absent          O:Q      ignored  O:Q:o
drop_move_claim                 I:- N:M  applied  I:-:i
drop_move_claim                 I:- N:K  ignored  I:-:i N:K:n
drop_move_claim.absent          I:- N:K  applied  I:-:i
drop_move_claim                 I:M O:Q  ignored  I:M:i O:Q:o
drop_move_claim.absent          I:M O:Q  ignored  I:M:i O:Q:o
drop_move_claim                 N:M O:Q  applied  O:Q:o
drop_move_claim                 N:K O:Q  ignored  N:K:n O:Q:o
drop_move_claim.absent          N:K O:Q  applied  O:Q:o

start_move                      -        ignored  -
start_move                      I:-      applied  O:-:i
start_move                      I:K      applied  O:K:i
start_move                      I:M      ignored  I:M:i
start_move                      N:M      ignored  N:M:n
start_move                      O:Q      ignored  O:Q:o
start_move                      I:- N:M  applied  N:M:n O:-:i
start_move                      I:K N:M  applied  N:M:n O:K:i
start_move                      I:M N:K  applied  N:K:n O:M:i
start_move                      I:- O:Q  ignored  I:-:i O:Q:o
start_move                      N:M O:Q  ignored  N:M:n O:Q:o

finish_move                     -        applied  I:M:c*
finish_move.absent              -        applied  I:-:c*
finish_move                     I:M      applied  I:M:i*
finish_move                     I:K      applied  I:M:c*
finish_move                     I:-      applied  I:M:c*
finish_move.absent              I:-      applied  I:-:i*
finish_move.absent              I:K      applied  I:-:c*   # silent: M is absent, so the label goes
finish_move                     N:M      applied  I:M:n*
finish_move                     N:K      applied  I:M:c* N:K:n
finish_move                     N:-      applied  I:M:c* N:-:n
finish_move.absent              N:K      applied  I:-:c* N:K:n
finish_move                     O:Q      applied  I:M:c* O:Q:o
finish_move.absent              O:Q      applied  I:-:c* O:Q:o
finish_move                     I:- N:M  applied  I:M:n* O:-:i
finish_move                     I:K N:M  applied  I:M:n* O:K:i
finish_move                     I:- N:K  applied  I:M:c* N:K:n   # silent: as columns I and N
finish_move                     I:M N:K  applied  I:M:i* N:K:n   # silent: as columns I and N
finish_move                     I:M O:Q  applied  I:M:i* O:Q:o
finish_move                     I:- O:Q  applied  I:-:i* O:Q:o
finish_move.absent              I:K O:Q  applied  I:K:i* O:Q:o
finish_move                     N:M O:Q  applied  I:M:n* O:Q:o
finish_move                     N:K O:Q  applied  I:M:c* N:K:n O:Q:o   # silent: as columns N and O

drop_move_claim_at_source       -        ignored  -
drop_move_claim_at_source       I:-      applied  -
drop_move_claim_at_source       I:K      applied  -
drop_move_claim_at_source       I:M      ignored  I:M:i
drop_move_claim_at_source       N:M      applied  I:M:n
drop_move_claim_at_source       N:K      ignored  N:K:n
drop_move_claim_at_source       N:-      ignored  N:-:n
drop_move_claim_at_source       O:Q      applied  -
drop_move_claim_at_source       O:-      applied  -
drop_move_claim_at_source       I:- N:M  applied  I:M:n
drop_move_claim_at_source       I:- N:K  applied  N:K:n
drop_move_claim_at_source       I:M N:K  ignored  I:M:i N:K:n   # a repeated confirm changes nothing
drop_move_claim_at_source       I:M O:Q  applied  I:M:i
drop_move_claim_at_source       I:- O:Q  applied  I:-:i
drop_move_claim_at_source       N:M O:Q  applied  I:M:n
drop_move_claim_at_source       N:K O:Q  applied  N:K:n

drop_move_claim_at_dest         -        ignored  -
drop_move_claim_at_dest         I:M      applied  -
drop_move_claim_at_dest         I:K      ignored  I:K:i
drop_move_claim_at_dest         I:-      ignored  I:-:i
drop_move_claim_at_dest         N:M      applied  -
drop_move_claim_at_dest         N:K      ignored  N:K:n
drop_move_claim_at_dest         N:-      ignored  N:-:n
drop_move_claim_at_dest         O:Q      applied  I:Q:o
drop_move_claim_at_dest         O:-      applied  I:-:o
drop_move_claim_at_dest         O:M      applied  I:M:o
drop_move_claim_at_dest         I:- N:M  applied  I:-:i
drop_move_claim_at_dest         I:M N:M  applied  I:M:i
drop_move_claim_at_dest         I:- N:K  ignored  I:-:i N:K:n   # silent: as columns I and N
drop_move_claim_at_dest         I:M O:Q  applied  I:Q:o
drop_move_claim_at_dest         I:K O:Q  ignored  I:K:i O:Q:o
drop_move_claim_at_dest         I:- O:Q  ignored  I:-:i O:Q:o
drop_move_claim_at_dest         N:M O:Q  applied  I:Q:o
drop_move_claim_at_dest         N:K O:Q  ignored  N:K:n O:Q:o   # silent: only N(M) is named

finish_revert_move              -        applied  I:-:c*
finish_revert_move              I:-      applied  I:-:i*
finish_revert_move              I:M      applied  I:M:i*
finish_revert_move              N:M      applied  I:-:c*
finish_revert_move              N:K      applied  I:-:c* N:K:n
finish_revert_move              O:Q      applied  I:Q:o*
finish_revert_move              I:- N:M  applied  I:-:i*
finish_revert_move              I:- N:K  applied  I:-:i* N:K:n
finish_revert_move              I:M O:Q  applied  I:Q:o*
finish_revert_move              I:- O:Q  applied  I:-:i*
finish_revert_move              I:K O:Q  applied  I:K:i*
finish_revert_move              N:M O:Q  applied  I:Q:o*
finish_revert_move              N:K O:Q  applied  I:Q:o* N:K:n

update_usage                    -        ignored  -
update_usage                    I:-      applied  I:-:i*
update_usage                    N:M      ignored  N:M:n
update_usage                    O:Q      ignored  O:Q:o
update_usage                    I:M N:K  applied  I:M:i* N:K:n
update_usage                    I:M O:Q  applied  I:M:i* O:Q:o
update_usage                    N:M O:Q  ignored  N:M:n O:Q:o
update_usage.removable          -        ignored  -
update_usage.removable          I:M      applied  -
update_usage.removable          N:M      applied  -
update_usage.removable          O:Q      applied  -
update_usage.removable          I:M N:K  applied  -
update_usage.removable          I:M O:Q  applied  -
update_usage.removable          N:M O:Q  applied  -
"""

# No lifecycle gets here: what stays is I without the label M, or O with it. By the table's column I the
# second event then finds a running instance to release; the first one is as the table says.
NOT_REPEATABLE = {
    "drop_move_claim_at_source on I:- O:Q",
    "drop_move_claim_at_dest on I:M N:M",
    "drop_move_claim_at_dest on O:M",
}

COLUMNS = ("", "I", "N", "O", "I N", "I O", "N O")
ROLES = {"I": "instance", "N": "incoming", "O": "outgoing"}
LABELS = {"-": None, "M": MOVE, "K": OTHER_MOVE, "Q": "older move"}
FLAVORS = {
    "i": a_flavor(1, 1024, 10, swap_mb=100),
    "n": a_flavor(2, 2048, 20, ephemeral_gb=5),
    "o": a_flavor(4, 4096, 40, swap_mb=512),
    "c": a_flavor(8, 8192, 80, ephemeral_gb=1, swap_mb=1),
}
DISK_MB = {"i": 10340, "n": 25600, "o": 41472, "c": 82945}
OLD_STATES = {"vm_state": "active", "task_state": "resize_prep", "project_id": "project-1"}
NEW_STATES = {"vm_state": "resized", "task_state": None, "project_id": "project-2"}
ELSE = a_claim(uuid=BYSTANDER, flavor=a_flavor(3, 300, 3))
RESERVE = Amounts(vcpus=1, memory_mb=512, disk_mb=1500)


class Case(NamedTuple):
    method: str
    option: str
    before: tuple[str, ...]
    outcome: str
    after: tuple[str, ...]

    def __str__(self) -> str:
        option = self.option and f".{self.option}"
        return f"{self.method}{option} on {' '.join(self.before) or 'nothing'}"


def read_table() -> list[Case]:
    cases = []
    for line in filter(None, (line.split("#")[0] for line in TABLE.splitlines())):
        called, *words = line.split()
        at = next(i for i, word in enumerate(words) if word.isalpha())
        before = tuple(word for word in words[:at] if word != "-")
        after = tuple(word for word in words[at + 1 :] if word != "-")
        name, _, option = called.partition(".")
        for method in MOVE_CLAIMS if name == "move_claim" else (name,):
            cases.append(Case(method, option, before, words[at], after))
    return cases


CASES = read_table()


def held(text: str) -> Claim:
    """The claim that `I:M` before, or `I:M:n*` afterwards, stands for."""
    role, label, *size = text.rstrip("*").split(":")
    flavor = FLAVORS[size[0] if size else role.lower()]
    states = NEW_STATES if text.endswith("*") else OLD_STATES
    return a_claim(ROLES[role], LABELS[label], flavor, **states)


def node_before(case: Case) -> Node:
    resources = some_resources(vcpus=100, memory_mb=100_000, local_gb=1000)
    return a_node(ELSE, *map(held, case.before), resources=resources, reserve=RESERVE)


def command_of(case: Case) -> AnyCommand:
    same, size = case.option == "same", FLAVORS["c"]
    if same:
        size = FLAVORS["i" if case.method == "instance_claim" else "n"]
    states = OLD_STATES if same else NEW_STATES
    if case.option == "removable":
        states = {"vm_state": "deleted"}
    # A resize is sized by its own flavor, whatever its instance has until then.
    own = a_flavor(1, 1, 1) if case.method == "resize_claim" else size
    may_send: dict[str, Any] = {
        "instance": an_instance(flavor=own, **states),
        "instance_uuid": INSTANCE,
        "flavor": size,
        "migration": a_migration(),
        "migration_uuid": None if case.option == "absent" else MOVE,
        "limits": NOTHING_PASSES if case.option in ("same", "full") else None,
    }
    fields = METHODS[case.method].__struct_fields__
    return command(case.method, **{key: may_send[key] for key in fields if key in may_send})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cell(case: Case) -> None:
    before = node_before(case)
    node, decision = decided(before, command_of(case))
    wanted = {claim.role.value: claim for claim in map(held, case.after)}
    assert claims_of(node) == wanted
    assert decision.outcome == case.outcome
    if case.outcome == "granted":
        assert decision.claim == wanted["incoming" if case.method in MOVE_CLAIMS else "instance"]
    assert claims_of(node, BYSTANDER) == {"instance": ELSE}
    assert before == node_before(case), "deciding changed the node that it was given"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_used_is_the_reserve_plus_the_claims(case: Case) -> None:
    node, _ = decided(node_before(case), command_of(case))
    sizes = [text.split(":")[2][0] for text in case.after]
    assert node.used == Amounts(
        vcpus=1 + 3 + sum(FLAVORS[size].vcpus for size in sizes),
        memory_mb=512 + 300 + sum(FLAVORS[size].memory_mb for size in sizes),
        disk_mb=1500 + 3072 + sum(DISK_MB[size] for size in sizes),
    )
    assert_sum(node)


@pytest.mark.parametrize("case", [case for case in CASES if str(case) not in NOT_REPEATABLE], ids=str)
def test_repeat_changes_nothing(case: Case) -> None:
    once, first = decided(node_before(case), command_of(case))
    twice, second = decided(once, command_of(case))
    assert second.changes == ()
    assert (twice.claims, twice.used) == (once.claims, once.used)
    assert second.outcome == ("ignored" if case.outcome == "applied" else case.outcome)
    assert second.claim == first.claim


def test_the_table_has_a_line_for_each_cell() -> None:
    cells = {
        (case.method, case.option == "removable", " ".join(text[0] for text in case.before)) for case in CASES
    }
    rows = {(method, removable) for method, removable, _ in cells}
    assert len(rows) == 13
    assert cells == {(*row, column) for row in rows for column in COLUMNS}


def test_late_revert_of_a_move_that_never_left_releases_both_its_claims() -> None:
    """I is of another move, N of M and O of an older one: the table above has no column for it."""
    case = Case("finish_revert_move", "", ("I:K", "N:M", "O:Q"), "applied", ("I:K:i*",))
    node, decision = decided(node_before(case), command_of(case))
    assert claims_of(node) == {"instance": held("I:K:i*")}
    assert decision.outcome == "applied"


@pytest.mark.parametrize("label", ["M", "K"])
@pytest.mark.parametrize(("method", "option"), dict.fromkeys(case[:2] for case in CASES))
def test_all_three_roles_keep_the_sum(method: str, option: str, label: str) -> None:
    """A claim on N+O or I+O leads here: the table above has no column for it, but its rules hold."""
    case = Case(method, option, ("I:-", f"N:{label}", "O:Q"), "", ())
    node, _ = decided(node_before(case), command_of(case))
    claims_of(node)
    assert_sum(node)
