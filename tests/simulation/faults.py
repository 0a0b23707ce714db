# SPDX-License-Identifier: Apache-2.0
"""The faults: points at which a worker may crash, errors of the database, and how often they occur."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

BEFORE_DECODE = "before decode"
AFTER_LOAD = "after load"
BEFORE_COMMIT = "before commit"
AFTER_COMMIT = "after commit, before acknowledgement"
AFTER_ACKNOWLEDGEMENT = "after acknowledgement"
BEFORE_PUBLISH = "before publish"
AFTER_PUBLISH = "after publish, before removal"
DURING_AUDIT = "during audit"
DURING_DRAIN = "during drain"

NAMED_POINTS = (
    BEFORE_DECODE, AFTER_LOAD, BEFORE_COMMIT, AFTER_COMMIT, AFTER_ACKNOWLEDGEMENT, BEFORE_PUBLISH,
    AFTER_PUBLISH, DURING_AUDIT, DURING_DRAIN,
)  # fmt: skip


class Crash(BaseException):
    """The process has crashed. Not an Exception, so that no handler catches it."""


class Violation(BaseException):
    """A promise is broken. Not an Exception: the worker would park the event and continue."""


@dataclass(frozen=True)
class Rates:
    """Probabilities of faults at each point or step, drawn for each seed."""

    crash: float
    error: float
    interleave: float
    drop: float
    duplicate: float
    poison: float
    failover: float

    @classmethod
    def drawn(cls, chance: Random) -> "Rates":
        """Half of the rates are near 0, so that seeds have few or many kinds of faults."""

        def rate(most: float) -> float:
            return most * chance.choice((0.05, 0.3, 1.0))

        return cls(
            rate(0.04), rate(0.08), rate(0.15), rate(0.08), rate(0.15), rate(0.05), rate(0.1)
        )  # fmt: skip


NONE = Rates(0, 0, 0, 0, 0, 0, 0)


def locked() -> Exception:
    return sqlite3.OperationalError("database is locked")


def unavailable() -> Exception:
    return sqlite3.OperationalError("unable to open database file")


def full() -> Exception:
    return sqlite3.OperationalError("database or disk is full")


def failed() -> Exception:
    return sqlite3.OperationalError("disk I/O error")


def lost() -> Exception:
    """An error that SQLAlchemy takes for a lost connection."""
    return sqlite3.ProgrammingError("Cannot operate on a closed database.")


@dataclass
class Trouble:
    """A database failure: the next `left` operations fail, all or only those that write."""

    error: Callable[[], Exception]
    left: int
    writes_only: bool

    @classmethod
    def drawn(cls, chance: Random) -> "Trouble":
        if chance.random() < 0.25:
            return cls(full, chance.randint(1, 8), writes_only=True)
        error = chance.choice((locked, unavailable, failed))
        return cls(error, chance.choice((1, 1, 2, 5, 10)), writes_only=False)
