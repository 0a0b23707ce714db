# SPDX-License-Identifier: Apache-2.0
"""What the table of Nova's tests counts, and what it says is wrong."""

from typing import Any

import pytest

from tests.nova import known
from tests.nova.report import Finding, report
from tests.nova.selection import ALL, PREFIX, SLICE, module_of
from tests.nova.trial import Outcome

TEST = f"{PREFIX}test_servers.ServerMovingTests.test_resize_revert"
DID = {"casts": 7, "dropped": 0, "drained": True, "audits_compared": 2, "fixture_ms": 60}
LETTER = {"code": "invalid_value", "path": "$.node", "message": "too long", "method": "update_usage"}


def outcome(mode: str = "mirror", status: str = "success", text: str = "", **did: Any) -> Outcome:
    return Outcome(TEST, mode, status, 1.0, text, {} if mode == "none" else DID | did)


def found(*outcomes: Outcome) -> dict[Finding, int]:
    return dict(report(outcomes).findings)


def test_row_counts_tests_and_what_the_adapter_did() -> None:
    difference, letter = "host1 vcpus: 1 in Nova, 2 in the worker", LETTER
    outcomes = [
        outcome(),
        outcome(status="skip"),
        outcome(status="fail", differences=[difference], dead_letters=[letter]),
    ]
    rows = report(outcomes).rows
    assert {place: row.figures() for place, row in rows.items()} == {
        ("test_servers", "mirror"): (3, 1, 1, 1, 6, 1, 21, 1)
    }


def test_tests_that_pass_are_clean() -> None:
    assert report([outcome("none"), outcome("tap"), outcome("mirror")]).clean


def test_no_tests_are_not_clean() -> None:
    assert not report([]).clean


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (outcome(status="fail", text="Traceback\nValueError: x\n"), "failed: ValueError: x"),
        (outcome(status="inprogress"), "failed"),
        (outcome(differences=["host1 vcpus"]), "difference: host1 vcpus"),
        (outcome(dead_letters=[LETTER]), "invalid_value at $.node: too long (update_usage)"),
        (outcome(dropped=2), "2 casts were dropped"),
        (outcome(drained=False), "did not process all casts"),
        (Outcome(TEST, "tap", "success"), "the adapter was not there"),
    ],
)
def test_anything_wrong_is_found_and_not_clean(bad: Outcome, what: str) -> None:
    (finding,) = found(bad)
    assert what in finding.what
    assert not report([bad]).clean


def test_same_difference_is_listed_once_with_its_count() -> None:
    assert list(found(outcome(differences=["x", "x"]), outcome(differences=["x"])).values()) == [3]


def test_failure_of_nova_alone_is_told_from_the_adapters() -> None:
    reasons = {each.mode: each.reason for each in found(outcome("none", "fail"), outcome("tap", "fail"))}
    assert reasons == {"none": None, "tap": "fails in Nova alone, too"}


def test_known_difference_and_known_failure_of_replace_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "DIFFERENCES", {"resize_revert: host1 vcpus": "Nova counts later"})
    monkeypatch.setattr(known, "FAILURES", {"test_resize_revert$": "it patches the tracker"})
    assert report([outcome(differences=["host1 vcpus"])]).clean
    assert report([outcome("replace", "fail")]).clean
    assert not report([outcome("mirror", "fail")]).clean


def test_slice_is_a_part_of_all() -> None:
    names = [f"{owner}.{test}" for owner, tests in SLICE.items() for test in tests]
    assert [name for name in names if not name.startswith(ALL)] == []


@pytest.mark.parametrize(
    ("test", "module"),
    [
        (TEST, "test_servers"),
        (f"{PREFIX}libvirt.test_vpmem.VPMEMTests.test_x(a.b)", "libvirt.test_vpmem"),
        ("process-returncode", "process-returncode"),
    ],
)
def test_module_of_a_test(test: str, module: str) -> None:
    assert module_of(test) == module
