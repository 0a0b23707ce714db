# SPDX-License-Identifier: Apache-2.0
"""The digest tells a repeated command from another one: it covers method, node and every argument."""

import json
from typing import Any

import pytest

from tests.json_paths import at, positions, with_value
from tests.samples import EXAMPLES, Json, message
from tracker_worker.core.envelope import digest_of, open_envelope, read_command
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.errors import BadMessage

OTHER_TEXTS = (
    "other", "stopped", "rebuilding", "migration", "type-PF", "dedicated", "prefer", "share",
    "required", "flavor_alias", "2020-01-01T00:00:00Z",
)  # fmt: skip


def digest(method: str, args: Json) -> str:
    return digest_of(method, read_command(open_envelope(message(method, args))))


def turned(value: Json) -> Json:
    """The same JSON with the keys of every object in the other order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


def others(value: Json) -> list[Json]:
    """Values of the same type, one of which is valid wherever this one is."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1]
        case str():
            return [text for text in OTHER_TEXTS if text != value]
        case None:
            return ["other", 1]
        case list():
            return [[*value, *value], []]
        case _:
            return []


def changed(method: str, path: tuple[str | int, ...]) -> str | None:
    """The digest with another valid value at a path; None for an object, whose fields are paths too."""
    for other in others(at(EXAMPLES[method], path)):
        try:
            return digest(method, with_value(EXAMPLES[method], path, other))
        except BadMessage:
            continue
    return None


@pytest.mark.parametrize("method", METHODS)
def test_it_does_not_depend_on_the_order_of_keys(method: str) -> None:
    assert digest(method, turned(EXAMPLES[method])) == digest(method, EXAMPLES[method])


@pytest.mark.parametrize("method", METHODS)
def test_it_does_not_depend_on_spaces(method: str) -> None:
    inner = {"method": method, "args": EXAMPLES[method]}
    compact = json.dumps(inner, separators=(",", ":"))
    spaced = json.dumps(inner, indent=4)
    digests = set()
    for text in (compact, spaced):
        raw = json.dumps({"oslo.version": "2.0", "oslo.message": text}).encode()
        digests.add(digest_of(method, read_command(open_envelope(raw))))
    assert digests == {digest(method, EXAMPLES[method])}


def test_it_does_not_depend_on_what_a_client_stamps_anew() -> None:
    args = {"node": "n", "instance_uuid": "i"}
    again = args | {"event_id": "e", "origin": {"source": "s", "sequence": 1}}
    assert digest("abort_instance_claim", again) == digest("abort_instance_claim", args)


def test_an_absent_argument_is_the_same_as_its_default() -> None:
    assert digest("remove_node", {"node": "n", "host": None, "force": False}) == digest(
        "remove_node", {"node": "n"}
    )


@pytest.mark.parametrize("method", METHODS)
def test_it_is_another_for_any_other_value(method: str) -> None:
    own = digest(method, EXAMPLES[method])
    for path in positions(EXAMPLES[method]):
        value = at(EXAMPLES[method], path)
        if path[:1] in (("event_id",), ("origin",)) or isinstance(value, dict):
            continue
        if "migration" in str(path[0]) and path[-1] in ("uuid", "instance_uuid"):
            continue  # A migration and its instance have to agree.
        if "providers" in path and path[-1] in ("name", "parent"):
            continue  # A parent is the name of another provider.
        found = changed(method, path)
        assert found is not None, f"no other value is valid at {path}"
        assert found != own, path


def test_it_is_another_for_another_method() -> None:
    args = {"node": "n", "instance_uuid": "i", "migration_uuid": "m"}
    methods = ("start_move", "drop_move_claim_at_source", "drop_move_claim_at_dest")
    assert len({digest(method, args) for method in methods}) == len(methods)


def test_it_does_not_cover_keys_that_no_rule_reads() -> None:
    def claim(extra_specs: dict[str, str]) -> dict[str, Any]:
        args = EXAMPLES["instance_claim"]
        changed: dict[str, Any] = with_value(args, ("instance", "flavor", "extra_specs"), extra_specs)
        return changed

    one = digest("instance_claim", claim({"hw:cpu_policy": "shared", "note": "a"}))
    other = digest("instance_claim", claim({"hw:cpu_policy": "shared", "note": "b"}))
    assert one == other
