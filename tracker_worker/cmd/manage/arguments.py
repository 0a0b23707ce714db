# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands have. Builds no command: what they are checked against is imported late."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tracker_worker.core.times import TIME_FORMS, parse_time

STATES = ("parked", "replayed", "discarded", "all")
"""The states of dead letters that `dead-letter list` knows; the last stands for any."""
SORT_KEYS = ("name", "fullness", "vcpus", "memory_mb", "local_gb", "vms", "last_event")
"""By what `node list` sorts."""
NODE_COLUMNS = (
    "name", "host", "uuid", "vcpus", "memory_mb", "local_gb", "vms", "fullness", "flags", "disabled",
    "conflicts", "broken", "reserve_too_large", "last_event",
)  # fmt: skip
"""The columns of `node list`."""
MAX_ROWS = 1_000_000
"""The largest --limit."""
_MAX_DAYS = 3650
_MAX_MINUTES = _MAX_DAYS * 24 * 60
_MAX_SECONDS = 24 * 60 * 60


class Choices:
    """The choices of an option, which are imported when a value is checked or completed."""

    def __init__(self, load: Callable[[], list[str]]) -> None:
        self._load = load

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __contains__(self, value: object) -> bool:
        return value in self._load()


class _Methods(Choices):
    """The methods that letters have: the known ones, and what a newer client may have sent."""

    def __contains__(self, value: object) -> bool:
        from tracker_worker.core.envelope import is_method_name

        return isinstance(value, str) and is_method_name(value)


def add_node(parser: Any) -> None:
    """Add the name of a node."""
    parser.add_argument("name_of_node", metavar="NODE", help="the name of the node, as 'node list' shows it")


def add_limit(parser: Any) -> None:
    """Add --limit."""
    parser.add_argument(
        "--limit", type=number(MAX_ROWS), default=100, metavar="N", help="the newest N, by default 100"
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
        "--method", choices=_Methods(_methods), metavar="METHOD", help="letters of this method, known or not"
    )
    parser.add_argument(
        "--since",
        type=time,
        metavar="TIME",
        help=f"letters parked since {TIME_FORMS}",
    )


def add_state(parser: Any) -> None:
    """Add --state."""
    parser.add_argument(
        "--state",
        choices=STATES,
        default=STATES[0],
        metavar="STATE",
        help=f"one of {', '.join(STATES)}; by default {STATES[0]}",
    )


def add_selection(parser: Any) -> None:
    """Add the arguments that select parked letters, by id or by filters."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="the id of a letter")
    add_filters(parser)
    parser.add_argument("--all", action="store_true", dest="all_letters", help="all parked letters")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done without doing it")


def add_status(parser: Any) -> None:
    """Add the options of `status`."""
    parser.add_argument(
        "--watch",
        type=number(_MAX_SECONDS),
        metavar="SECONDS",
        help="repeat it until Ctrl-C",
    )
    parser.add_argument(
        "--max-wait",
        type=number(_MAX_SECONDS),
        default=300,
        metavar="SECONDS",
        help="how long notifications or commands may wait until a person is needed, by default 300",
    )
    parser.add_argument(
        "--quiet-nodes",
        type=number(_MAX_MINUTES),
        metavar="MINUTES",
        help="name the nodes that have had no event for longer; audits without a change are no events",
    )
    parser.add_argument(
        "--except-node",
        action="append",
        default=[],
        metavar="NODE",
        help="leave a node out of what needs a person, such as one in maintenance; may be repeated",
    )


def add_revision(parser: Any) -> None:
    """Add the revision of a schema."""
    parser.add_argument(
        "--version", dest="revision", default="head", metavar="REVISION", help="by default the newest"
    )


def add_purge(parser: Any) -> None:
    """Add the options of `db purge`."""
    parser.add_argument(
        "--days",
        type=number(_MAX_DAYS),
        metavar="N",
        help="retention of receipts, by default [tracker] receipt_days",
    )
    parser.add_argument("--dry-run", action="store_true", help="count the rows instead of deleting them")


def add_list_of_nodes(parser: Any) -> None:
    """Add the options of `node list`."""
    parser.add_argument(
        "--sort",
        choices=SORT_KEYS,
        default=SORT_KEYS[0],
        metavar="KEY",
        help=f"one of {', '.join(SORT_KEYS)}: of an amount the largest first; by default {SORT_KEYS[0]}",
    )
    parser.add_argument(
        "--columns",
        type=_columns,
        metavar="NAME,...",
        help=f"the columns, in this order: {', '.join(NODE_COLUMNS)}",
    )
    parser.add_argument("--host", metavar="HOST", help="nodes of this host")
    parser.add_argument("--disabled", action="store_true", help="nodes whose service is disabled")
    parser.add_argument(
        "--broken",
        action="store_true",
        help="nodes that are broken, in conflict, or smaller than their reserve",
    )
    parser.add_argument(
        "--older-than",
        type=number(_MAX_MINUTES),
        metavar="MINUTES",
        help="nodes without an event for longer; audits without a change are no events",
    )


def add_list_of_outbox(parser: Any) -> None:
    """Add the options of `outbox list`."""
    parser.add_argument("--node", dest="name_of_node", metavar="NODE", help="notifications about this node")
    parser.add_argument(
        "--limit", type=number(MAX_ROWS), default=100, metavar="N", help="the oldest N, by default 100"
    )


def add_all_options(parser: Any) -> None:
    """Add --all of `config show`."""
    parser.add_argument("--all", action="store_true", dest="all_options", help="show the defaults, too")


def add_letter(parser: Any) -> None:
    """Add the id of a dead letter."""
    parser.add_argument("id", metavar="ID", help="the id of the letter, as 'dead-letter list' shows it")


def add_force(parser: Any) -> None:
    """Add --force of `dead-letter replay`."""
    parser.add_argument("--force", action="store_true", help="replay letters that may do harm, too")


def add_removal(parser: Any) -> None:
    """Add the options of `node remove`."""
    parser.add_argument("--host", metavar="HOST", help="remove the node only if it belongs to this host")
    parser.add_argument("--force", action="store_true", help="remove the node although it has claims")


def add_shell(parser: Any) -> None:
    """Add the name of a shell."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell")


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


def _columns(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NODE_COLUMNS]:
        raise ArgumentTypeError(f"there is no column {unknown[0]!r}: choose from {', '.join(NODE_COLUMNS)}")
    return names


def time(text: str) -> datetime:
    """Convert a time of the command line to UTC."""
    try:
        return parse_time(text, datetime.now(UTC).replace(tzinfo=None))
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{TIME_FORMS} is needed, not {text!r}") from None


def last_time(text: str) -> datetime:
    """Convert a time of the command line to UTC; one without a fraction of a second is its whole second."""
    moment = time(text)
    return moment.replace(microsecond=moment.microsecond or 999_999)
