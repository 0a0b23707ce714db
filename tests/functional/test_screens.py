# SPDX-License-Identifier: Apache-2.0
"""The screens in the documentation are what the commands print."""

from pathlib import Path

from tests.functional import placement_screens
from tests.functional.screens import SCREENS, screens


def test_screens_of_the_documentation_are_current(tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for made in (screens, placement_screens.screens):
        directory = tmp_path / made.__module__
        directory.mkdir()
        found |= made(directory)
    kept = {path.stem: path.read_text() for path in SCREENS.glob("*.screen")}
    assert kept == found, "run tools/operator_screens"
