# SPDX-License-Identifier: Apache-2.0
"""The one line that is said of an error."""

import amqp
import pymysql
import pytest
from sqlalchemy.exc import OperationalError

from tracker_worker.core.error_text import driver_text, error_text


def test_error_text_is_the_driver_s_first_line_without_secrets() -> None:
    driver = RuntimeError("failed to resolve host 'PART9@127.0.0.1'\nmore")
    error = OperationalError("SELECT 1", {"bound": "value"}, driver)
    assert error_text(error, ["PART9"]) == "OperationalError: failed to resolve host '***@127.0.0.1'"
    assert error_text(ValueError()) == "ValueError: "
    assert error_text(None) == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (amqp.AccessRefused("ACCESS_REFUSED - Login was refused"), "ACCESS_REFUSED - Login was refused"),
        (pymysql.OperationalError(1045, "Access denied"), "Access denied (1045)"),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (TimeoutError(), "TimeoutError"),
        (amqp.AccessRefused("For details see the broker logfile."), "For details see the broker logfile"),
    ],
)
def test_driver_text_omits_numbers_around_it(error: BaseException, said: str) -> None:
    assert driver_text(error) == said
