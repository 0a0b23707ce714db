# SPDX-License-Identifier: Apache-2.0
"""Which audits are left undecoded, and what their digests tell apart."""

from typing import Any

import msgspec
import pytest

from tests import samples
from tracker_worker.core.unread_audit import UnreadAudit, unread_audit
from tracker_worker.domain.objects import Origin

ORIGIN = {"source": "client-1", "sequence": 7}


def audit(**arguments: Any) -> UnreadAudit | None:
    """The audit that a message with these arguments has; an argument of None is left out."""
    given = {
        "node": samples.NODE,
        "resources": samples.a_report(),
        "instances": [samples.an_instance()],
        "origin": ORIGIN,
    } | arguments
    text = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
    return unread_audit(msgspec.Raw(text))


def facts(**arguments: Any) -> bytes:
    unread = audit(**arguments)
    assert unread is not None
    return unread.facts


def test_audit_has_what_its_repetition_needs() -> None:
    unread = audit(as_of=5, event_id="event-a")
    assert unread is not None
    assert (unread.node, unread.event_id, unread.origin, unread.as_of) == (
        samples.NODE,
        "event-a",
        Origin("client-1", 7),
        5,
    )


def test_facts_are_the_same_whenever_they_are_read() -> None:
    later = {"source": "client-2", "sequence": 8}
    assert facts() == facts(event_id="event-b", origin=later, as_of=6)


@pytest.mark.parametrize(
    "other", [{"memory_mb_used": 4097.5}, {"vcpus_used": 3}, {"local_gb_used": 7}, {"stats": {"uptime": 61}}]
)
def test_figures_that_a_driver_changes_all_the_time_are_no_facts(other: dict[str, Any]) -> None:
    """libvirt reports another memory_mb_used in each audit."""
    figures = {"vcpus_used": 2, "memory_mb_used": 4096, "local_gb_used": 6, "stats": {"uptime": 1}}
    report = samples.a_report() | figures
    assert facts(resources=report) == facts(resources=report | other)


@pytest.mark.parametrize("name", ["vcpus_used", "memory_mb_used", "local_gb_used", "stats"])
def test_audit_with_a_faulty_figure_is_decoded_in_full(name: str) -> None:
    assert audit(resources=samples.a_report() | {name: "many"}) is None


@pytest.mark.parametrize(
    "other",
    [
        {"resources": samples.a_report(vcpus=9)},
        {"resources": samples.a_report(disk_available_least=9)},
        {"resources": samples.a_report(stats={"uptime": 1, "cpu_load": 2})},
        {"instances": []},
        {"migrations": []},
        {"migrations": [samples.a_migration()]},
        {"disabled": True},
        {"disabled": False},
    ],
)
def test_other_facts_have_another_digest(other: dict[str, Any]) -> None:
    assert facts() != facts(**other)


def test_value_that_moves_to_another_argument_changes_the_digest() -> None:
    assert facts(instances=[], migrations=[1]) != facts(instances=[1], migrations=[])


@pytest.mark.parametrize(
    "arguments",
    [
        {"instances": None},
        {"origin": None},
        {"startup": True},
        {"node": "no name\n"},
        {"as_of": -1},
        {"origin": {"source": "client-1"}},
        {"reboot": 1},
        {"disabled": "yes"},
    ],
)
def test_report_and_what_is_invalid_are_no_unread_audits(arguments: dict[str, Any]) -> None:
    assert audit(**arguments) is None


def test_audit_whose_lists_are_null_is_a_report() -> None:
    text = msgspec.json.encode({"node": "n", "origin": ORIGIN, "resources": {}, "instances": None})
    assert unread_audit(msgspec.Raw(text)) is None


def test_fault_behind_a_repeated_key_is_not_hidden() -> None:
    good = msgspec.json.encode(
        {"node": "n", "origin": ORIGIN, "instances": [], "resources": samples.a_report()}
    )
    assert unread_audit(msgspec.Raw(good)) is not None
    bad = good.replace(b'"resources":{', b'"resources":{"memory_mb_used":"bad","memory_mb_used":1,')
    assert unread_audit(msgspec.Raw(bad)) is None
