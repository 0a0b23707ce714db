# SPDX-License-Identifier: Apache-2.0
"""Texts as a terminal may show them. Pure.

A sender, a tenant or a driver chose some of what is printed: none of it may move the cursor, turn a line
around, or pass for something else.
"""

import json
import re

from tracker_worker.domain.fields import UNSEEN

_UNSEEN = re.compile(f"[{UNSEEN}\ud800-\udfff]")
_UNSEEN_IN_JSON = re.compile(rf"(?!\n)[{UNSEEN}]")


def escaped(text: str) -> str:
    r"""Return a text on one line, what is not seen in it as Python writes it: \x9b, \u202e, \n."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escaped_lines(text: str) -> str:
    """Return a text of several lines, each escaped."""
    return "\n".join(map(escaped, text.split("\n")))


def escaped_json(document: str) -> str:
    """Return a JSON document that means the same, what is not seen in its texts as JSON's escapes."""
    return _UNSEEN_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], document)
