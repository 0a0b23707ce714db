# SPDX-License-Identifier: Apache-2.0
"""What the broker's confirms of single and of several messages say, and what a refusal among them does."""

from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.bus.rabbit.confirms import Confirms


def test_confirm_out_of_order_counts_once_those_before_it_have_come() -> None:
    confirms = Confirms()
    confirms.acknowledge(2, multiple=False)
    assert confirms.confirmed == 0
    confirms.acknowledge(1, multiple=False)
    assert confirms.confirmed == 2


def test_confirm_of_several_messages_says_nothing_of_one_that_was_refused_before() -> None:
    confirms = Confirms()
    confirms.acknowledge(2, multiple=True)
    confirms.refuse(4, multiple=False)
    confirms.acknowledge(6, multiple=True)
    assert (confirms.confirmed, confirms.refused) == (3, True)


def test_messages_that_were_confirmed_stay_so_when_later_ones_are_refused() -> None:
    confirms = Confirms()
    confirms.acknowledge(2, multiple=True)
    confirms.refuse(5, multiple=True)
    confirms.acknowledge(7, multiple=True)
    assert (confirms.confirmed, confirms.refused) == (2, True)


@given(data=st.data(), accepted=st.lists(st.booleans(), min_size=1, max_size=12))
def test_what_is_confirmed_was_never_refused(data: st.DataObject, accepted: list[bool]) -> None:
    """The broker settles messages in any order, and several of the same fate at once."""
    confirms, unsettled = Confirms(), dict(enumerate(accepted, start=1))
    while unsettled:
        tag = data.draw(st.sampled_from(list(unsettled)))
        fate, upto = unsettled[tag], [each for each in unsettled if each <= tag]
        multiple = data.draw(st.booleans()) and all(unsettled[each] is fate for each in upto)
        (confirms.acknowledge if fate else confirms.refuse)(tag, multiple)
        for each in upto if multiple else [tag]:
            del unsettled[each]
        assert all(accepted[: confirms.confirmed])
    assert confirms.refused is not all(accepted)
    if all(accepted):
        assert confirms.confirmed == len(accepted)
