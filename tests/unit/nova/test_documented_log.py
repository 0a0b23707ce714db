# SPDX-License-Identifier: Apache-2.0
"""The operators' page explains each line that the adapter logs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LEVELS = {"info", "warning", "error", "exception", "critical"}
PLACEHOLDER = re.compile(r"%\w")


def lines_of(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[0] != "LOG":
            continue
        assert isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS, ast.unparse(node)
        text = node.args[0]
        if isinstance(text, ast.Name):
            text = constants[text.id]
        assert isinstance(text, ast.Constant) and isinstance(text.value, str), ast.unparse(node)
        if text.value != "%s":  # A text of option_errors.
            yield text.value


LINES = sorted({line for file in (ROOT / "tracker_worker" / "nova").glob("*.py") for line in lines_of(file)})


def test_lines_are_found() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize("line", LINES)
def test_line_of_the_log_is_explained(line: str) -> None:
    page = (ROOT / "doc" / "source" / "admin" / "nova-compute.rst").read_text()
    words = " ".join(page.partition("What the log says")[2].split())
    longest = max(PLACEHOLDER.split(line), key=len).strip(" :,;")
    assert longest in words
