# SPDX-License-Identifier: Apache-2.0
"""Held claims: what `put` and `drop` return is what a dict would hold, and counts follow them."""

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import BYSTANDER, INSTANCE, MOVE, a_claim
from tracker_worker.domain.held_claims import Claim, Counts, HeldClaims, Role

CLAIMS = st.builds(
    a_claim,
    st.sampled_from(list(Role)),
    st.just(MOVE),
    uuid=st.sampled_from([INSTANCE, BYSTANDER, "third"]),
    vm_state=st.sampled_from(["active", "building"]),
    task_state=st.sampled_from([None, "spawning"]),
    project_id=st.sampled_from(["p1", "p2"]),
)


@settings(max_examples=2 * settings().max_examples, derandomize=True, database=None)
@given(st.lists(st.tuples(st.booleans(), CLAIMS), max_size=20))
def test_any_changes_keep_what_a_dict_keeps_and_its_counts(changes: list[tuple[bool, Claim]]) -> None:
    held = HeldClaims()
    model: dict[tuple[str, Role], Claim] = {}
    for puts, claim in changes:
        key = claim.instance_uuid, claim.role
        if puts:
            held = held.put(claim)
            model[key] = claim
        else:
            held = held.drop(*key)
            model.pop(key, None)
        assert {(c.instance_uuid, c.role): c for c in chain.from_iterable(held.values())} == model
        assert held.find(*key) == model.get(key)
        assert held.keys() == {uuid for uuid, _ in model}
        assert held.counts == HeldClaims.of(model.values()).counts


def test_change_leaves_what_was_held_before_as_it_was() -> None:
    before = HeldClaims.of([a_claim()])
    assert len(before.put(a_claim(uuid=BYSTANDER))) == 2
    assert len(before.drop(INSTANCE, Role.INSTANCE)) == 0
    assert (list(before), before.counts.instances) == ([INSTANCE], 1)


def test_instance_without_claims_is_not_held() -> None:
    assert INSTANCE not in HeldClaims.of([a_claim()]).drop(INSTANCE, Role.INSTANCE)


def test_last_of_a_state_leaves_no_key() -> None:
    assert HeldClaims.of([a_claim()]).drop(INSTANCE, Role.INSTANCE).counts == Counts()


def test_claims_of_moves_are_not_counted() -> None:
    move = a_claim("incoming", MOVE, task_state="resize_prep")
    assert HeldClaims.of([move]).counts == Counts()


def test_task_named_none_is_a_task() -> None:
    counts = HeldClaims.of([a_claim(task_state="None"), a_claim(uuid=BYSTANDER)]).counts
    assert (counts.in_task, counts.by_key["num_task_None"]) == (1, 2)
