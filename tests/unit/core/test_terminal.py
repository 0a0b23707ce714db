# SPDX-License-Identifier: Apache-2.0
"""What is printed cannot drive a terminal."""

import json

import pytest

from tracker_worker.core.terminal import escaped, escaped_json, escaped_lines

UNSEEN = {
    "\x1b[31m": "\\x1b[31m",
    "\x9b31m": "\\x9b31m",
    "\x7f": "\\x7f",
    "a\nb\tc\r": "a\\nb\\tc\\r",
    "\u202etxt": "\\u202etxt",
    "\u200b": "\\u200b",
    "\U000e0041": "\\U000e0041",
    "\ud800": "\\ud800",
}


@pytest.mark.parametrize(("text", "shown"), UNSEEN.items(), ids=UNSEEN.values())
def test_what_is_not_seen_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_what_is_seen_stays() -> None:
    assert escaped("größe, 漢 \\ [bold] 🙂") == "größe, 漢 \\ [bold] 🙂"


def test_lines_stay_lines() -> None:
    assert escaped_lines("one\n\x1btwo\n") == "one\n\\x1btwo\n"


def test_escaped_json_means_the_same() -> None:
    value = {"a\x9b": "\u202e\U000e0041\x7f\n", "é": [1, "🙂"]}
    document = json.dumps(value, ensure_ascii=False, indent=1)
    shown = escaped_json(document)
    assert json.loads(shown) == value
    assert "\\u009b" in shown and "\\udb40\\udc41" in shown and "é" in shown
    assert shown.count("\n") == document.count("\n")
