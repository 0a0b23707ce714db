# SPDX-License-Identifier: Apache-2.0
"""The reference pages are complete: every command, field, code and event type, with its meaning and unit.

They are made by doc/source/_ext, which is imported without Sphinx here.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import jsonschema
import msgspec
import pytest
import reference_text
from reference_text import (
    PARTS,
    SCHEMAS,
    expanded,
    literal,
    object_structs,
    payload_data,
    schema_fields,
    summary,
)
from struct_fields import STATES, Field, fields_of, member_texts, split_unit, split_way_out

from tests.builders import MOVE, a_claim
from tests.topologies import a_numa_node, a_pinned_guest, a_vf, holding
from tests.unit.test_notification_samples import STORIES
from tracker_worker import exceptions
from tracker_worker.domain.audit import Reason
from tracker_worker.domain.commands import METHODS, Command, GetNode
from tracker_worker.domain.decide import AS_OF_TOO_OLD, STALE_AUDIT
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.errors import ErrorCode, Refusal
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.views import ClaimView, claim_view, node_view
from tracker_worker.worker.metrics import FAMILIES, PREFIX

SOURCE = Path(__file__).resolve().parents[2] / "doc" / "source"
USER = SOURCE / "user"
MONITORING = SOURCE / "admin" / "monitoring.rst"
UNITS = {
    "CPU numbers", "GB", "ISO 8601, UTC", "KiB", "MB", "Placement's units", "builds", "corrections", "count",
    "devices", "instances", "events", "migrations", "number", "pages", "ratio", "vCPUs", "version",
}  # fmt: skip
SCHEMA_FILES = [*sorted(SCHEMAS.glob("*.json")), reference_text.NODE_VIEW]


@pytest.fixture(scope="module")
def commands_page() -> str:
    return expanded((USER / "commands.rst").read_text())


@pytest.fixture(scope="module")
def notifications_page() -> str:
    return expanded((USER / "notifications-reference.rst").read_text())


def undescribed(fields: Iterable[Field]) -> list[str]:
    """The fields that lack a meaning, or a unit though they are amounts, or that have an unknown unit."""
    return [
        field.name
        for field in fields
        if not field.meaning
        or (field.is_amount and not field.unit)
        or (field.unit and field.unit not in UNITS)
    ]


def section_of(page: str, label: str) -> str:
    """What a page has behind a label, up to the next one."""
    _, found, rest = page.partition(f".. _{label}:\n")
    assert found, label
    return rest.partition("\n.. _")[0]


def row_of(text: str, first: str) -> str:
    """The row of a table that begins with a literal."""
    _, found, rest = text.partition(f"* - ``{first}``\n")
    assert found, first
    return rest.partition("* - ")[0]


@pytest.mark.parametrize(("method", "command"), METHODS.items())
def test_command_page_has_every_command_and_argument(
    commands_page: str, method: str, command: type[Command]
) -> None:
    section = section_of(commands_page, f"command-{method}")
    assert summary(command) and summary(command) in section
    for field in fields_of(command):
        text = commands_page if field.name in Command.__struct_fields__ else section
        assert literal(field.meaning) in row_of(text, field.name)


def test_command_page_has_every_object_and_field(commands_page: str) -> None:
    structs = object_structs()
    assert {"Flavor", "HostCell", "Instance", "Migration", "PciRequest", "Resources"} <= {
        cls.__name__ for cls in structs
    }
    for cls in structs:
        section = section_of(commands_page, f"object-{cls.__name__}")
        for field in fields_of(cls):
            assert field.unit in row_of(section, field.name)


@pytest.mark.parametrize("cls", [*METHODS.values(), *object_structs()])
def test_struct_describes_every_field_and_the_unit_of_every_amount(cls: type) -> None:
    assert undescribed(fields_of(cls)) == []


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=lambda path: path.stem)
def test_schema_describes_every_field_and_the_unit_of_every_amount(path: Path) -> None:
    schema = json.loads(path.read_text())
    data = schema["properties"].get("nova_object.data", schema)
    assert undescribed(schema_fields(data)) == []


def test_notification_page_has_every_event_type_and_field(notifications_page: str) -> None:
    for event_type, sample in reference_text.event_types().items():
        section = section_of(notifications_page, f"notification-{event_type}")
        assert f"Priority {sample['priority']}." in section
        for field in schema_fields(payload_data(sample["payload"]["nova_object.name"])):
            assert field.unit in row_of(section, field.name)


def test_event_types_of_one_payload_each_have_their_own_meaning(notifications_page: str) -> None:
    meanings = {
        event_type: section_of(notifications_page, f"notification-compute_node.{event_type}")
        for event_type in ("create", "delete")
    }
    assert "\nA node was reported for the first time.\n" in meanings["create"]
    assert "\nA node was removed.\n" in meanings["delete"]


def test_notification_page_has_every_part_of_a_payload(notifications_page: str) -> None:
    assert reference_text.nested_payloads() == ["CausePayload", "ClaimPayload", "CorrectionPayload"]
    for name in reference_text.nested_payloads():
        section = section_of(notifications_page, f"payload-{name}")
        for field in schema_fields(payload_data(name)):
            assert field.unit in row_of(section, field.name)


def test_every_schema_and_sample_is_on_the_notification_page(notifications_page: str) -> None:
    for path in SCHEMAS.glob("*.json"):
        assert path.stem in notifications_page
    for path in SCHEMAS.parent.glob("*.json"):
        assert f"notification_samples/{path.name}" in notifications_page


@pytest.mark.parametrize("code", ErrorCode)
def test_error_code_has_its_meaning_way_out_and_exception(commands_page: str, code: ErrorCode) -> None:
    meaning, way_out = split_way_out(member_texts(ErrorCode)[code.name])
    assert meaning and way_out
    row = row_of(section_of(commands_page, "error-codes"), code.value)
    assert literal(meaning) in row and literal(way_out) in row
    assert (reference_text.exception_of(code) or "none") in row


@pytest.mark.parametrize("refusal", Refusal)
def test_refusal_has_its_meaning_and_way_out(refusal: Refusal) -> None:
    meaning, way_out = split_way_out(member_texts(Refusal)[refusal.name])
    assert meaning and way_out
    row = row_of(reference_text.refusal_table(), refusal.value)
    assert literal(meaning) in row and literal(way_out) in row


@pytest.mark.parametrize("outcome", Outcome)
def test_outcome_has_its_meaning(outcome: Outcome) -> None:
    meaning = member_texts(Outcome)[outcome.name]
    assert meaning and literal(meaning) in row_of(reference_text.outcome_table(), outcome.value)


def test_every_exception_is_on_the_command_page_with_code_and_way_out(commands_page: str) -> None:
    kinds = reference_text.exception_classes()
    assert exceptions.TrackerUnavailable in kinds
    for kind in kinds:
        meaning, way_out = split_way_out(kind.__doc__ or "")
        assert meaning and way_out, kind
        assert f"``{kind.code}``" in row_of(commands_page, kind.__name__)


def test_every_exception_of_a_code_can_be_caught() -> None:
    named = {reference_text.exception_of(code) for code in ErrorCode} - {
        "",
        "NoSuchMethod",
        "UnsupportedVersion",
    }
    assert named <= {kind.__name__ for kind in reference_text.exception_classes()}


def test_reasons_of_replies_are_on_the_command_page(commands_page: str) -> None:
    for reason in (STALE_AUDIT, AS_OF_TOO_OLD, "migration_without_instance"):
        assert f"``{reason}``" in commands_page


def test_lists_of_states_are_on_the_command_page(commands_page: str) -> None:
    for title, states in STATES.items():
        section = section_of(commands_page, title)
        assert all(f"``{state}``" in section for state in states)


def test_every_command_but_the_question_has_outcomes() -> None:
    silent = [command for command in METHODS.values() if not reference_text.outcomes_of(command)]
    assert silent == [GetNode]


def a_full_node() -> tuple[Node, Claim]:
    """A node whose view has every field: cells, pins, devices that are free and held."""
    tags = {"physical_network": "physnet1"}
    free, taken = (a_vf(address, tags=tags) for address in ("vf1", "vf2"))
    claim = holding(a_claim("incoming", MOVE), a_pinned_guest({0: [0, 1]}), [taken])
    return a_numa_node(claim, devices=[free, taken], sequence=1), claim


def test_node_view_is_what_its_schema_says() -> None:
    node, _ = a_full_node()
    view = msgspec.json.decode(msgspec.json.encode(node_view(node)))
    schema = json.loads(reference_text.NODE_VIEW.read_text())
    jsonschema.Draft202012Validator(schema).validate(view)
    assert list(view) == list(schema["properties"])
    assert view["pci_device_pools"] and view["numa_topology"]["cells"] and view["claims"]
    judge = jsonschema.Draft202012Validator(schema)
    assert not judge.is_valid(view | {"surprise": 1})
    assert not judge.is_valid({key: value for key, value in view.items() if key != "claims"})


def test_claim_table_is_that_of_the_replies_claim() -> None:
    _, claim = a_full_node()
    assert list(payload_data("ClaimPayload")["properties"]) == list(ClaimView.__struct_fields__)
    jsonschema.Draft202012Validator(payload_data("ClaimPayload")).validate(
        msgspec.json.decode(msgspec.json.encode(claim_view(claim)))
    )


@pytest.mark.parametrize("name", PARTS)
def test_part_of_the_reference_stands_on_a_page(name: str) -> None:
    pages = "".join(path.read_text() for path in (*USER.glob("*.rst"), MONITORING))
    assert f".. reference:: {name}\n" in pages


class Documented(msgspec.Struct):
    beside: int  #: a comment beside [MB]
    #: a comment above,
    #: in two lines [GB]
    above: int
    behind: int
    """A docstring behind [KiB]"""
    bare: int


class Heir(Documented):
    own: int = 0  #: its own


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("dead-letters", [code.value for code in ErrorCode]),
        ("audits", list(get_args(Reason))),
        ("notifications", list(STORIES)),
    ],
)
def test_the_administrator_finds_every_word_explained(page: str, words: list[str]) -> None:
    text = expanded((SOURCE / "admin" / f"{page}.rst").read_text())
    assert [word for word in words if f"``{word}``" not in text] == []


def test_text_of_a_field_is_found_wherever_it_stands() -> None:
    assert member_texts(Documented) == {
        "beside": "a comment beside [MB]",
        "above": "a comment above, in two lines [GB]",
        "behind": "A docstring behind [KiB]",
        "bare": "",
    }


def test_unit_is_what_stands_in_brackets_at_the_end() -> None:
    assert split_unit("RAM of `[pci]` [MB]") == ("RAM of `[pci]`", "MB")
    assert split_unit("the `[pci] alias` of it") == ("the `[pci] alias` of it", "")


def test_field_without_meaning_or_unit_is_found() -> None:
    assert undescribed(fields_of(Documented)) == ["bare"]
    assert undescribed(fields_of(Heir)) == ["bare", "own"]


def test_monitoring_page_has_every_metric() -> None:
    page = expanded(MONITORING.read_text())
    for family in FAMILIES:
        assert f"``{PREFIX}{family.name}" in page
        assert literal(family.text) in page


def test_monitoring_page_says_what_to_do_about_every_alert() -> None:
    rules = (SOURCE.parents[1] / "etc" / "tracker-worker" / "prometheus-rules.yaml").read_text()
    alerts = re.findall(r"(?m)^ +- alert: (\w+)$", rules)
    page = MONITORING.read_text()
    terms = re.findall(r"(?m)^(TrackerWorker[\w, ]+)\n    \S", page)
    assert sorted(name for term in terms for name in term.split(", ")) == sorted(alerts)
