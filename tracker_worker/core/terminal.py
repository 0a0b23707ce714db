# SPDX-License-Identifier: Apache-2.0
"""Escapes texts for terminals. Pure.

Some of the texts that are printed come from senders, tenants or drivers. Such a text must not move the
cursor, reverse the direction of a line, or look like another text.
"""

import json
import re

from tracker_worker.domain.fields import UNSEEN

_UNSEEN = re.compile(f"[{UNSEEN}\ud800-\udfff]")
_UNSEEN_IN_JSON = re.compile(rf"(?!\n)[{UNSEEN}]")


def escaped(text: str) -> str:
    r"""Return a text on one line, with Python's escapes for invisible characters: \x9b, \u202e, \n."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_lines(text: str) -> str:
    """Return a text of several lines, each escaped."""
    return "\n".join(map(escaped, text.split("\n")))


def escaped_json(document: str) -> str:
    """Return an equivalent JSON document, with JSON's escapes for invisible characters in its texts."""
    return _UNSEEN_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document)
