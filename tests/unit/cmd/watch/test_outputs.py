# SPDX-License-Identifier: Apache-2.0
"""What a watch writes for programs, and how it notices that nothing reads it."""

import json
import os

import pytest

from tests.samples import body
from tests.sent_notifications import sent
from tracker_worker.cmd.watch.outputs import JsonLines, refuse_closed_pipe
from tracker_worker.core.received_notification import read_notification


def test_notification_with_line_breaks_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    message = sent("claim.error", reason="a\nb\u202e\x9b")
    notification = read_notification(body(json.dumps(message, indent=2, ensure_ascii=False)))
    assert notification is not None
    JsonLines().show(notification, [])
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == message
    assert line.isascii()


def test_pipe_without_a_reader_is_refused() -> None:
    reader, writer = os.pipe()
    refuse_closed_pipe(writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        refuse_closed_pipe(writer)
    os.close(writer)


def test_file_is_no_closed_pipe() -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    refuse_closed_pipe(descriptor)
    os.close(descriptor)
