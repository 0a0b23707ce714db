# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands have. Builds no command: what they are checked against is imported late."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

STATES = ("parked", "replayed", "discarded", "all")
"""The states of dead letters that `dead-letter list` knows; the last stands for any."""
_MAX_ROWS = 1_000_000


class Choices:
    """The choices of an option, which are imported when a value is checked or completed."""

    def __init__(self, load: Callable[[], list[str]]) -> None:
        self._load = load

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __contains__(self, value: object) -> bool:
        return value in self._load()


def add_node(parser: Any) -> None:
    """Add the name of a node."""
    parser.add_argument("name_of_node", metavar="NODE", help="the name of the node, as 'node list' shows it")


def add_limit(parser: Any) -> None:
    """Add --limit."""
    parser.add_argument(
        "--limit", type=number(_MAX_ROWS), default=100, metavar="N", help="the newest N, by default 100"
    )


def add_filters(parser: Any) -> None:
    """Add the options that filter dead letters."""
    parser.add_argument(
        "--code", choices=Choices(_codes), metavar="CODE", help="letters with this error code"
    )
    parser.add_argument(
        "--node", dest="name_of_node", type=_name, metavar="NODE", help="letters of this node"
    )
    parser.add_argument(
        "--method", choices=Choices(_methods), metavar="METHOD", help="letters of this method"
    )
    parser.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="letters parked since this time, such as 2026-11-22T12:00 (UTC)",
    )


def add_state(parser: Any) -> None:
    """Add --state."""
    parser.add_argument("--state", choices=STATES, default=STATES[0], help="by default parked")


def add_selection(parser: Any) -> None:
    """Add the arguments that select parked letters, by id or by filters."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="the id of a letter")
    add_filters(parser)
    parser.add_argument("--all", action="store_true", dest="all_letters", help="all parked letters")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done without doing it")


def number(maximum: int) -> Callable[[str], int]:
    """Return a converter to a number from 1 to a maximum."""

    def convert(text: str) -> int:
        if text.isdecimal() and 1 <= int(text) <= maximum:
            return int(text)
        raise ArgumentTypeError(f"a number from 1 to {maximum} is needed, not {text!r}")

    return convert


def _codes() -> list[str]:
    from tracker_worker.domain.errors import ErrorCode

    return sorted(code.value for code in ErrorCode)


def _methods() -> list[str]:
    from tracker_worker.domain.commands import METHODS

    return sorted(METHODS)


def _name(text: str) -> str:
    """Refuse an empty name, as from an unset variable of a shell script."""
    if not text:
        raise ArgumentTypeError("a name is needed: --all selects the letters of all nodes")
    return text


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"a time like 2026-11-22T12:00 is needed, not {text!r}") from None
