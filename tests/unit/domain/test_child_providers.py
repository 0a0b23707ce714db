# SPDX-License-Identifier: Apache-2.0
"""The providers below a node are a tree: each has a name of its own, and a parent that leads to the node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.domain.child_providers import ChildProvider, check_tree
from tracker_worker.domain.errors import InvalidValue


def tree(*pairs: tuple[str, str | None]) -> list[ChildProvider]:
    return [ChildProvider(name, inventories={}, traits=[], parent=parent) for name, parent in pairs]


def refusal(*pairs: tuple[str, str | None]) -> tuple[str, str]:
    with pytest.raises(InvalidValue) as caught:
        check_tree(tree(*pairs))
    return caught.value.field, caught.value.message


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("numa-0", None)],
        [("numa-0", None), ("numa-1", None)],
        [("gpu", "numa-0"), ("numa-0", None)],
        [("vf", "pf"), ("pf", "numa-0"), ("numa-0", None), ("vf-2", "pf")],
    ],
)
def test_children_may_come_in_any_order(pairs: list[tuple[str, str | None]]) -> None:
    check_tree(tree(*pairs))


def test_name_that_comes_twice_is_refused() -> None:
    assert refusal(("gpu", None), ("numa-0", None), ("gpu", "numa-0")) == (
        "providers[2].name",
        "providers[0] has the same name",
    )


def test_parent_that_is_not_in_the_report_is_refused() -> None:
    field, message = refusal(("numa-0", None), ("gpu", "numa-7"))
    assert field == "providers[1].parent"
    assert message.startswith("no provider of the report has this name")


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([("gpu", "gpu")], "providers[0].parent"),
        ([("pf", "vf"), ("vf", "pf")], "providers[0].parent"),
        (
            [("numa-0", None), ("vf", "pf"), ("a", "b"), ("pf", "c"), ("b", "a"), ("c", None)],
            "providers[2].parent",
        ),
    ],
)
def test_provider_below_itself_is_refused(pairs: list[tuple[str, str | None]], field: str) -> None:
    assert refusal(*pairs) == (field, "it is below the provider itself")


@given(st.lists(st.integers(-1, 30), max_size=30))
def test_only_lists_whose_parents_all_lead_to_the_node_are_taken(parents: list[int]) -> None:
    def leads_to_the_node(number: int) -> bool:
        for _ in range(len(parents) + 1):
            if number == -1:
                return True
            if number >= len(parents):
                return False
            number = parents[number]
        return False

    pairs = [(f"p{number}", None if parent == -1 else f"p{parent}") for number, parent in enumerate(parents)]
    if all(map(leads_to_the_node, range(len(parents)))):
        check_tree(tree(*pairs))
    else:
        refusal(*pairs)


def test_long_chain_is_taken() -> None:
    check_tree(tree(*[(f"p{number}", f"p{number + 1}") for number in range(4000)], ("p4000", None)))
