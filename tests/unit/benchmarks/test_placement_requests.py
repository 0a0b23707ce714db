# SPDX-License-Identifier: Apache-2.0
from itertools import repeat

import pytest

from tests.benchmarks.placement.figures import CHANGE, Recovery, Requests
from tests.benchmarks.placement.request_log import RequestLog, kind_of

UUID = "11111111-1111-4111-8111-111111111111"
PROVIDER = f"/resource_providers/{UUID}"


@pytest.mark.parametrize(
    ("method", "target", "status", "expected"),
    [
        ("POST", "/resource_providers", "200", "POST"),
        ("GET", f"/resource_providers?in_tree={UUID}", "200", "GET in_tree"),
        ("PUT", f"{PROVIDER}/inventories", "200", "PUT inventories"),
        ("PUT", f"{PROVIDER}/inventories", "409", "PUT inventories (409)"),
        ("DELETE", PROVIDER, "204", "DELETE"),
        ("PUT", "/traits/CUSTOM_RACK_7", "201", "PUT traits/{name}"),
        ("GET", f"/allocations/{UUID}", "200", "GET allocations"),
    ],
)
def test_kind_of_a_request_is_the_same_for_all_nodes(
    method: str, target: str, status: str, expected: str
) -> None:
    assert kind_of(method, target, status) == expected


def test_request_log_counts_each_answer_once_with_its_request() -> None:
    log = RequestLog()
    first, second = log.connection(), log.connection()
    first.asked(f"PUT {PROVIDER}/inventories HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    second.asked(f"GET {PROVIDER}/traits HTTP/1.1\r\n\r\n".encode())
    first.asked(b'{"inventories": {}}')
    first.answered(b"HTTP/1.1 409 Conflict\r\n\r\n")
    first.answered(b'{"errors": []}')
    assert log.since(0) == {"PUT inventories (409)": 1}
    position = log.position()
    second.answered(b"HTTP/1.1 200 OK\r\n\r\n{}")
    assert log.since(position) == {"GET traits": 1}


def test_request_log_has_the_most_frequent_kind_first() -> None:
    log = RequestLog()
    connection = log.connection()
    for method in ("POST", *repeat("PUT", 2)):
        connection.asked(f"{method} /resource_providers HTTP/1.1\r\n\r\n".encode())
        connection.answered(b"HTTP/1.1 200 OK\r\n\r\n")
    assert list(log.since(0)) == ["PUT", "POST"]


def test_requests_of_a_situation_are_counted_each_time() -> None:
    found = Requests(CHANGE, 10, {"PUT inventories": 10, "PUT traits/{name}": 1})
    assert (found.total, found.each) == (11, 1.1)
    assert found.kinds == ["PUT inventories", "PUT traits/{name} (0.1)"]


def test_recovery_rate_leaves_the_first_pause_out() -> None:
    assert Recovery(100, new=False, first=20.0, all=25.0).rate == 20
