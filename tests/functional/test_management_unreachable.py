# SPDX-License-Identifier: Apache-2.0
"""Why the management API does not answer, asked of the loopback without a broker."""

import socket
from collections.abc import Iterator
from contextlib import closing
from threading import Thread

import pytest

from tracker_worker.bus.rabbit.inspection import ManagementUnavailable, activities

PLUGIN = "rabbitmq_management"


def why(address: str) -> str:
    with pytest.raises(ManagementUnavailable) as error:
        activities(f"http://tracker:planted@{address}", "/")
    text = str(error.value)
    assert "planted" not in text and "\n" not in text
    return text


@pytest.fixture(params=[b"AMQP\x00\x00\x09\x01", b""], ids=["AMQP", "silent"])
def no_http(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers a request as a broker's AMQP port does, or only hangs up."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(request.param)

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_refused_connection_is_said_with_the_plugin() -> None:
    text = why("127.0.0.1:1")
    assert text.startswith("http://127.0.0.1:1 does not answer: Connection refused; ")
    assert PLUGIN in text


def test_host_without_an_address_is_said_without_the_plugin() -> None:
    """Found by a newcomer: a wrong name, and the port of AMQP, got the text of a refused connection."""
    text = why("tracker-broker.invalid:15672")
    assert text.startswith("http://tracker-broker.invalid:15672 does not answer: no address of its host: ")
    assert PLUGIN not in text


def test_host_that_can_be_no_name_is_no_traceback() -> None:
    assert "its host is no host name" in why("broker..example:15672")


def test_server_without_http_is_said_without_the_plugin(no_http: str) -> None:
    text = why(no_http)
    assert text.startswith(f"http://{no_http} does not answer in HTTP: ")
    assert PLUGIN not in text
