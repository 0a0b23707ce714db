# SPDX-License-Identifier: Apache-2.0
"""Compares what the adapter casts in a test of Nova with the trace that was recorded in the same test.

Both have the same methods in the same order for each node, with equal arguments: normal_forms.py has what
may differ. Ids and names are compared as a renaming, one for the whole test.
"""

import gzip
import json
import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

from tests.nova import normal_forms
from tests.nova.selection import PREFIX

TRACES = Path(__file__).parent / "traces"
_SUFFIX = ".jsonl.gz"
_DRAWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z]{20}")
"""What a test of Nova draws by lot: uuids, and the names of the flavors that it makes."""
_OTHER_METHODS = " has other methods:"

Json = dict[str, Any]


def tests() -> list[str]:
    """Return the names of the tests that have a trace, after PREFIX."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in TRACES.glob(f"*{_SUFFIX}"))


def has_trace(test: str) -> bool:
    """Tell whether a test has a trace."""
    return _path(test).exists()


def trace(test: str) -> list[Json]:
    """Return the recorded commands of a test, with what was expected of them."""
    with gzip.open(_path(test), "rt") as lines:
        next(lines)  # The header.
        return [json.loads(line) for line in lines]


def differences(recorded: list[Json], cast: list[Json]) -> list[str]:
    """Return the differences; a line each. Hosts are paired so that fewest have other methods or arguments.

    Nova's scheduler takes one of several equal hosts at random.
    """
    ours, theirs = (
        _by_node(normal_forms.of_cast(cast)),
        _by_node(normal_forms.of_recorded(recorded)),
    )
    if len(ours) != len(theirs):
        return [f"nodes: recorded {sorted(theirs)}, cast {sorted(ours)}"]
    pairings = (dict(zip(theirs, nodes, strict=True)) for nodes in permutations(ours))
    return min((_of_pairing(theirs, ours, pairing) for pairing in pairings), key=_weight)


def _of_pairing(
    recorded: dict[str, list[Json]], cast: dict[str, list[Json]], nodes: dict[str, str]
) -> list[str]:
    renaming = _Renaming(nodes)
    found: list[str] = []
    for node, name in nodes.items():
        theirs, ours = recorded[node], cast[name]
        methods = [[command["method"] for command in commands] for commands in (theirs, ours)]
        if methods[0] != methods[1]:
            found.append(f"{name}{_OTHER_METHODS} recorded {methods[0]}, cast {methods[1]}")
            continue
        for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            path = f"{name} {number} {one['method']}"
            found += [f"{path}{line}" for line in renaming.compare(one["args"], other["args"])]
    return found


def _weight(found: list[str]) -> tuple[int, int]:
    return sum(_OTHER_METHODS in line for line in found), len(found)


class _Renaming:
    """The names in a recording, and what they are in the casts: one for one."""

    def __init__(self, names: dict[str, str]) -> None:
        self._cast = dict(names)
        self._recorded = {cast: recorded for recorded, cast in names.items()}

    def compare(self, recorded: Any, cast: Any, path: str = "") -> Iterator[str]:
        """Yield the differences of two values, with their paths."""
        if isinstance(recorded, dict) and isinstance(cast, dict):
            for name in sorted(recorded | cast):
                yield from self.compare(recorded.get(name), cast.get(name), f"{path}.{name}")
        elif isinstance(recorded, list) and isinstance(cast, list) and len(recorded) == len(cast):
            for number, (one, other) in enumerate(zip(recorded, cast, strict=True)):
                yield from self.compare(one, other, f"{path}[{number}]")
        elif not self._same(recorded, cast):
            yield f"{path}: recorded {json.dumps(recorded)}, cast {json.dumps(cast)}"

    def _same(self, recorded: Any, cast: Any) -> bool:
        if not (isinstance(recorded, str) and isinstance(cast, str)):
            return bool(recorded == cast)
        if _DRAWN.fullmatch(recorded) and _DRAWN.fullmatch(cast):
            self._cast.setdefault(recorded, cast)
            self._recorded.setdefault(cast, recorded)
        return self._cast.get(recorded, recorded) == cast and self._recorded.get(cast, cast) == recorded


def _by_node(commands: list[Json]) -> dict[str, list[Json]]:
    nodes: dict[str, list[Json]] = {}
    for command in commands:
        nodes.setdefault(command["args"]["node"], []).append(command)
    return {node: list(normal_forms.without_memory_of_left(each)) for node, each in nodes.items()}


def _path(test: str) -> Path:
    return TRACES / f"{test.removeprefix(PREFIX)}{_SUFFIX}"
