# SPDX-License-Identifier: Apache-2.0
"""Who has asked, as the history of a node and the log of a worker show it."""

import getpass
from unittest.mock import Mock

import pytest

from tracker_worker.cmd.manage.operator_request import MAX_LENGTH, request_of_operator


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ctl-1")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "tracker-worker")


def test_request_names_user_and_host() -> None:
    assert request_of_operator() == "manage:tracker-worker@ctl-1"


def test_user_behind_sudo_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert request_of_operator() == "manage:alice@ctl-1"


def test_user_without_a_name_is_named_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", Mock(side_effect=KeyError("uid not found")))
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert request_of_operator() == "manage:4711@ctl-1"


@pytest.mark.parametrize("name", ["a" * 99, "al\x1bice", " ", "\u202e"])
def test_request_fits_its_column_whatever_the_name_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SUDO_USER", name)
    request = request_of_operator()
    assert request.isascii() and request.isprintable() and " " not in request
    assert len(request) <= MAX_LENGTH
