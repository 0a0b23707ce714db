# SPDX-License-Identifier: Apache-2.0
"""Which characters a name may have."""

import re
import unicodedata

from tracker_worker.domain.fields import UNSEEN

_UNSEEN = re.compile(f"[{UNSEEN}]")


def test_no_control_format_or_odd_space_character_is_part_of_a_name() -> None:
    """Python's own tables are those of the Unicode of its release: what they have, the pattern has."""
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        hidden = category in ("Cc", "Cf", "Zl", "Zp") or (category == "Zs" and character != " ")
        assert not hidden or _UNSEEN.match(character), f"U+{code:04X}"


def test_letters_digits_and_marks_are() -> None:
    assert not _UNSEEN.search("node-1 größe é ü 漢字 Ελλ ab\u0301")
