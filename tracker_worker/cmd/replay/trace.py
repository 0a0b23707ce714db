# SPDX-License-Identifier: Apache-2.0
"""Traces: reading recorded commands, ordering them, and comparing their results with the expectations.

Only `read_trace` does I/O.
"""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

FORMAT = "tracker-worker/1"
_PREFIX = "Insufficient compute resources: "

Json = dict[str, Any]


class Expect(Struct, frozen=True, omit_defaults=True):
    """The result in the recorded system. `claim`, the claim that it made, is not compared."""

    outcome: str | None = None
    reason: str | None = None
    nodes: dict[str, Json] = {}
    claim: Json | None = None


class Step(Struct, frozen=True):
    """One command of a trace, and its expectations."""

    method: str
    args: Json
    at: float | None = None
    expect: Expect = Expect()


class Header(Struct, frozen=True):
    """The first line of a trace: its format, and the settings of the recorded system."""

    trace: str
    description: str = ""
    settings: Json = {}


class Trace(Struct, frozen=True):
    """A whole trace."""

    path: Path
    header: Header
    steps: list[Step]


class Result(Struct, frozen=True):
    """The result of a step, with the views of the nodes for which the step has expectations."""

    outcome: str
    reason: str | None
    views: dict[str, Json | None]


def read_trace(path: Path) -> Trace:
    """Read a .jsonl or .jsonl.gz file.

    Raises ValueError if the file is not a trace; its text names the file and the line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    number = 1
    try:
        with opener(path, "rb") as lines:
            header = msgspec.json.decode(next(iter(lines)), type=Header)
            if header.trace != FORMAT:
                raise ValueError(f"format {header.trace!r} is not {FORMAT!r}")
            decoder = msgspec.json.Decoder(Step)
            steps = []
            for line in lines:
                number += 1
                steps.append(decoder.decode(line))
    except (ValueError, StopIteration, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name a trace, a .jsonl or .jsonl.gz file") from error
    return Trace(path, header, steps)


def predecessors(steps: Iterable[Step]) -> list[set[int]]:
    """Return for each step the earlier steps that it must wait for.

    These are the last step of its node and, if the uuid of the node is known, the last step of that uuid: two
    nodes cannot have one uuid, so the order of a report and of the removal of another node matters.
    """
    last: dict[tuple[str, str], int] = {}
    uuid_of: dict[str, str] = {}
    result: list[set[int]] = []
    for index, step in enumerate(steps):
        node = str(step.args.get("node"))
        keys = [("node", node)]
        if node in uuid_of:
            keys.append(("uuid", uuid_of[node]))
        if step.method == "update_available_resource":
            uuid_of[node] = str(step.args.get("resources", {}).get("uuid"))
            keys.append(("uuid", uuid_of[node]))
        result.append({last[key] for key in keys if key in last})
        for key in keys:
            last[key] = index
    return result


def plain_reason(text: str) -> str:
    """Return a reason in the form of traces: without the prefix and the full stop of Nova's exception."""
    return text.removeprefix(_PREFIX).removesuffix(".")


def differences(expect: Expect, result: Result) -> Iterator[str]:
    """Yield a line for each difference from the expectations."""
    if expect.outcome is not None and expect.outcome != result.outcome:
        yield f"outcome: expected {expect.outcome}, got {result.outcome} ({result.reason})"
    if expect.reason is not None and plain_reason(expect.reason) != result.reason:
        yield f"reason: expected {expect.reason!r}, got {result.reason!r}"
    for name, wanted in expect.nodes.items():
        yield from _compare(name, wanted, result.views.get(name))


def _compare(path: str, wanted: Any, got: Any) -> Iterator[str]:
    """Yield a line for each difference.

    Objects are compared by the expected keys, and 0 equals a missing value; other values must be equal. NUMA
    cells are matched by id, their pages by size, and PCI pools by all expected keys.
    """
    if wanted == 0 and got is None:
        return
    kind = path.rpartition(".")[2]
    if kind == "pci_device_pools":
        yield from _compare_pools(path, wanted, got or [])
    elif kind in _IDENTITY and isinstance(got, list):
        yield from _compare_by(path, _IDENTITY[kind], wanted, got)
    elif isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            yield from _compare(f"{path}.{key}", value, got.get(key))
    elif wanted != got:
        yield f"{path}: expected {wanted!r}, got {got!r}"


_IDENTITY = {"cells": "id", "mempages": "size_kb"}


def _compare_by(path: str, key: str, wanted: list[Json], got: list[Json]) -> Iterator[str]:
    known = {each[key]: each for each in got}
    for each in wanted:
        found = known.get(each[key])
        if found is not None and "pinned_count" in each:
            found = {**found, "pinned_count": len(found["pinned_cpus"])}
        yield from _compare(f"{path}[{each[key]}]", each, found)


def _compare_pools(path: str, wanted: list[Json], got: list[Json]) -> Iterator[str]:
    """Compare the sums of the counts of pools that have the same values of the expected keys."""
    counts: Counter[str] = Counter()
    keys: dict[str, Json] = {}
    for pool in wanted:
        named = {key: value for key, value in pool.items() if key != "count"}
        text = ", ".join(f"{key} {value!r}" for key, value in sorted(named.items()))
        keys[text] = named
        counts[text] += pool["count"]
    for text, named in keys.items():
        found = sum(pool["count"] for pool in got if all(pool.get(key) == named[key] for key in named))
        if found != counts[text]:
            yield f"{path}: expected {counts[text]} of {text}, got {found}"
    yield from _unexpected_pools(path, list(keys.values()), got)


def _unexpected_pools(path: str, wanted: list[Json], got: list[Json]) -> Iterator[str]:
    for pool in got:
        if pool["count"] and not any(all(pool.get(key) == each[key] for key in each) for each in wanted):
            yield f"{path}: expected none, got {pool!r}"
