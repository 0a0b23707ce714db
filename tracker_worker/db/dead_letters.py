# SPDX-License-Identifier: Apache-2.0
"""Dead letters: events that could not be applied, kept with the reason until somebody decides."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.tables import DEAD_LETTERS


class DeadLetter(Struct, frozen=True):
    """One parked event.

    `code` is stable; `path` names the bad field; the body is redacted (at most 64 KiB).
    """

    id: str
    event_id: str
    code: str
    path: str
    message: str
    node: str | None
    method: str | None
    body: str
    recorded_at: datetime
    state: str = "parked"


_ADD = sa.insert(DEAD_LETTERS)


def add(connection: sa.Connection, letters: Iterable[DeadLetter]) -> None:
    """Insert dead letters."""
    connection.execute(
        _ADD, [{field: getattr(x, field) for field in DeadLetter.__struct_fields__} for x in letters]
    )
