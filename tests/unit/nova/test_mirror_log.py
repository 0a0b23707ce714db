# SPDX-License-Identifier: Apache-2.0
"""An operator sees that a mirror compares, without a line for each of its audits."""

import logging

import pytest

from tracker_worker.nova.mirror_log import SUMMARY_AUDITS, MirrorLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> MirrorLog:
    caplog.set_level(logging.INFO)
    return MirrorLog()


def test_first_comparison_of_each_node_is_logged_once(
    log: MirrorLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        log.compared("one", [])
    log.compared("two", ["vcpus: 1 in Nova, 2 in the worker"])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "Node one was compared with the worker's for the first time: they agree"),
        ("WARNING", "Node two differs: vcpus: 1 in Nova, 2 in the worker"),
        ("INFO", "Node two was compared with the worker's for the first time: 1 fields differ"),
    ]


def test_audit_without_an_answer_is_not_the_first_comparison(
    log: MirrorLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.unanswered("one")
    assert caplog.messages == ["Node one was not compared after its audit"]
    log.compared("one", [])
    assert "for the first time" in caplog.messages[-1]


def test_summary_counts_all_nodes_of_the_host_and_begins_again(
    log: MirrorLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.unanswered("two")
    log.compared("two", ["a", "b"])
    for _ in range(SUMMARY_AUDITS):
        log.compared("one", [])
    log.compared("one", [])
    summary = f"{SUMMARY_AUDITS + 1} audits of 2 nodes compared, 2 differences, 1 not compared"
    assert [line for line in caplog.messages if "summary" in line] == [f"Since the last summary: {summary}"]
    for _ in range(SUMMARY_AUDITS - 1):
        log.compared("one", [])
    summary = f"{SUMMARY_AUDITS} audits of 1 nodes compared, 0 differences, 0 not compared"
    assert caplog.messages[-1] == f"Since the last summary: {summary}"


def test_worker_that_never_answers_has_a_summary_too(
    log: MirrorLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(SUMMARY_AUDITS):
        log.unanswered("one")
    assert "0 audits of 1 nodes compared" in caplog.messages[-1]
    assert f"{SUMMARY_AUDITS} not compared" in caplog.messages[-1]
