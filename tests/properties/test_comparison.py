# SPDX-License-Identifier: Apache-2.0
"""The questions that tools/compare_nova asks Nova: the worker answers each, and takes and refuses some."""

from random import Random

import pytest

from tests.comparison import ours
from tests.comparison.inputs import INPUTS


@pytest.mark.parametrize("subject", INPUTS)
def test_question_for_nova_has_an_answer_here(subject: str) -> None:
    random = Random(subject)
    answers = [ours.answer(subject, INPUTS[subject](random)) for _ in range(500)]
    taken = sum("value" in answer for answer in answers)
    assert taken >= len(answers) // 4
    assert taken < len(answers) or subject in ("network_metadata", "resources of a flavor")
