# SPDX-License-Identifier: Apache-2.0
"""Times as the commands print them, and take them on their command lines. Pure."""

import re
from datetime import UTC, datetime, time, timedelta

TIME_FORMS = "a time like 2026-11-22T12:00, the time of day 15:30 (UTC), an age (90s, 15m, 1h, 2d) or now"
_AGE = re.compile("([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAY = timedelta(days=1)


def time_text(moment: datetime) -> str:
    """Return a time in UTC as one word, to the second: 2026-11-22T12:00:00Z."""
    return f"{moment.isoformat(timespec='seconds')}Z"


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that a text names, without a zone, in UTC unless the text has a zone.

    A time of day is the last one before `now`, an age is subtracted from it. Raises ValueError or
    OverflowError for a text that is none of TIME_FORMS.
    """
    if text == "now":
        return now
    if age := _AGE.fullmatch(text):
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        if ":" not in text:  # 15 and 1530 would be times of day.
            raise
        moment = _in_utc(datetime.combine(now, time.fromisoformat(text)))
        return now - (now - moment) % _DAY
    return _in_utc(moment)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
