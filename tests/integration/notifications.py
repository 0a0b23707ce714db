# SPDX-License-Identifier: Apache-2.0
"""What consumers may rely on in the worker's notifications, checked on what a listener has heard."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import referencing

SCHEMAS = Path(__file__).resolve().parents[2] / "doc" / "notification_samples" / "schemas"

Json = dict[str, Any]


def data_of(message: Json) -> Json:
    """The figures of a payload."""
    data: Json = message["payload"]["nova_object.data"]
    return data


def of_type(messages: Iterable[Json], event_type: str) -> list[Json]:
    """The payloads of one type, in order."""
    return [data_of(message) for message in messages if message["event_type"] == event_type]


def usages(messages: Iterable[Json]) -> dict[str, list[Json]]:
    """The usage payloads of each node, in order."""
    found: dict[str, list[Json]] = {}
    for data in of_type(messages, "compute_node.usage"):
        found.setdefault(data["node"], []).append(data)
    return found


def check(messages: list[Json]) -> None:
    """Assert what is promised of every message, and of the messages of a node."""
    for message in messages:
        _schema_of(message["payload"]["nova_object.name"]).validate(message["payload"])
        assert message["publisher_id"].startswith("tracker-worker:"), message["publisher_id"]
        assert message["priority"] == ("ERROR" if message["event_type"].endswith(".error") else "INFO")
    ids = [message["message_id"] for message in messages]
    assert len(set(ids)) == len(ids)
    for node, found in usages(messages).items():
        assert list(gaps(found)) == [], node


def gaps(found: list[Json]) -> Iterator[tuple[Json, Json]]:
    """The neighbours among a node's usage payloads between which one is missing or in the wrong place."""
    for before, after in pairwise([{"sequence": 0}, *found]):
        if not (after["since"] == before["sequence"] < after["sequence"]):
            yield before, after


@cache
def _schema_of(name: str) -> Any:
    known = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    resources = [(file, referencing.Resource.from_contents(schema)) for file, schema in known.items()]
    registry = referencing.Registry().with_resources(resources)
    return jsonschema.Draft202012Validator(known[f"{name}.json"], registry=registry)
