# SPDX-License-Identifier: Apache-2.0
"""The words of msgspec's errors from which `core.envelope` tells stable codes.

When an upgrade of msgspec changes them this fails first: then change `_CODES` in core/envelope.py, and the
bound in pyproject.toml.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

ROOT = Path(__file__).resolve().parents[3]


class Inner(Struct, forbid_unknown_fields=True):
    number: Annotated[int, Meta(ge=0, le=9)] = 0
    free: int = 0
    real: float = 0.0
    text: Annotated[str, Meta(max_length=3, pattern="^a")] = "a"
    choice: Literal["x", "y"] = "x"


class Outer(Struct, forbid_unknown_fields=True):
    needed: str
    inner: Inner | None = None
    many: Annotated[list[int], Meta(max_length=1)] = []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Object missing required field `needed`"),
        ({"needed": "", "other": 1}, "Object contains unknown field `other`"),
        ({"needed": 1}, "Expected `str`, got `int` - at `$.needed`"),
        ({"needed": "", "inner": {"number": -1}}, "Expected `int` >= 0 - at `$.inner.number`"),
        ({"needed": "", "inner": {"number": 10}}, "Expected `int` <= 9 - at `$.inner.number`"),
        ({"needed": "", "inner": {"real": 10**400}}, "Number out of range - at `$.inner.real`"),
        ({"needed": "", "inner": {"text": "aaaa"}}, "Expected `str` of length <= 3 - at `$.inner.text`"),
        ({"needed": "", "inner": {"text": "b"}}, "Expected `str` matching regex '^a' - at `$.inner.text`"),
        ({"needed": "", "inner": {"choice": "z"}}, "Invalid enum value 'z' - at `$.inner.choice`"),
        ({"needed": "", "many": [1, 2]}, "Expected `array` of length <= 1 - at `$.many`"),
        ({"needed": "", "many": ["x"]}, "Expected `int`, got `str` - at `$.many[0]`"),
    ],
)
def test_msgspec_words_its_errors_as_the_codes_expect(body: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(json.dumps(body), type=Outer)
    assert str(caught.value) == text


def test_msgspec_words_a_number_of_thousands_of_digits() -> None:
    """Longer than Python itself turns into text."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"needed":"","inner":{"free":' + b"1" * 5000 + b"}}", type=Outer)
    assert str(caught.value) == "Integer value out of range - at `$.inner.free`"


def test_msgspec_is_bounded_to_versions_whose_words_are_known() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    assert "msgspec>=0.19,<0.23" in dependencies
