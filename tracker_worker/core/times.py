# SPDX-License-Identifier: Apache-2.0
"""Times as the commands print them, and take them on their command lines. Pure."""

from datetime import datetime


def time_text(moment: datetime) -> str:
    """Return a time in UTC as one word, to the second: 2026-11-22T12:00:00Z."""
    return f"{moment.isoformat(timespec='seconds')}Z"
