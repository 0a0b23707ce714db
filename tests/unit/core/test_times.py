# SPDX-License-Identifier: Apache-2.0
"""Times that an operator types: as they are printed, a time of day, an age."""

from datetime import datetime

import pytest

from tracker_worker.core.times import parse_time, time_text

NOW = datetime(2026, 11, 22, 15, 0, 7)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"),
        ("2026-11-22T12:00", "2026-11-22T12:00:00Z"),
        ("2026-11-22 12:00", "2026-11-22T12:00:00Z"),
        ("2026-11-22", "2026-11-22T00:00:00Z"),
        ("2026-11-22T12:00+02:00", "2026-11-22T10:00:00Z"),
        ("14:30", "2026-11-22T14:30:00Z"),
        ("14:30:05Z", "2026-11-22T14:30:05Z"),
        ("15:30", "2026-11-21T15:30:00Z"),
        ("15:30+02:00", "2026-11-22T13:30:00Z"),
        ("23:30-05:00", "2026-11-22T04:30:00Z"),
        ("90s", "2026-11-22T14:58:37Z"),
        ("now", "2026-11-22T15:00:07Z"),
        ("15m", "2026-11-22T14:45:07Z"),
        ("1h", "2026-11-22T14:00:07Z"),
        ("2d", "2026-11-20T15:00:07Z"),
    ],
)
def test_time_is_read_as_an_operator_types_it(text: str, printed: str) -> None:
    assert time_text(parse_time(text, NOW)) == printed


@pytest.mark.parametrize("text", ["", "yesterday", "15", "1530", "1w", "h", "1 h", "25:00", "9" * 9 + "d"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        parse_time(text, NOW)
