# SPDX-License-Identifier: Apache-2.0
"""Paths into JSON: every position of a sample, what is there, and a copy with something else there."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from tests.samples import FREE, MAPS

Json = Any
Path = tuple[str | int, ...]


def positions(value: Json, path: Path = ()) -> Iterator[Path]:
    """The path of everything inside a JSON value, itself included."""
    yield path
    children: Iterable[tuple[str | int, Json]] = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    for key, child in children:
        yield from positions(child, (*path, key))


def at(value: Json, path: Path) -> Json:
    """What is at a path."""
    for key in path:
        value = value[key]
    return value


def with_value(value: Json, path: Path, new: Json) -> Json:
    """A copy with something else at a path; it shares with the value what is not on the path."""
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = with_value(value[path[0]], path[1:], new) if path[1:] else new
    return changed


def structs(value: Json) -> Iterator[Path]:
    """The paths of the objects that have fields."""
    for path in positions(value):
        inside = any(key in FREE + MAPS for key in path)
        if isinstance(at(value, path), dict) and not inside:
            yield path


def field_path(path: Path) -> str:
    """A path as a BadMessage names it: keys that the sender chooses are shown as [...]."""
    text, inside_map = "$", False
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "[...]" if inside_map else f".{key}"
            inside_map = inside_map or key in FREE + MAPS
    return text
