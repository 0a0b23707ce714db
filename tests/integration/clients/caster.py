# SPDX-License-Identifier: Apache-2.0
"""Sends the commands of a file: a thread for each of its lists, the threads spread over several connections.

The file (the second argument) is JSON: {"partitions", "connections", "threads": [[{"method", "args", "how"?
call or cast, "server"?, "version"?}]]}. The broker confirms every message, and refuses it where no queue
takes it. Prints a line of JSON at the end: {"sent", "seconds", "replies" by event id, "errors"}.
"""

import json
import sys
import threading
import time
import zlib
from typing import Any

import oslo_messaging
from oslo_config import cfg


def main() -> None:
    cfg.CONF(["--config-file", sys.argv[1]], project="client")
    with open(sys.argv[2]) as file:
        plan = json.load(file)
    transports = [oslo_messaging.get_rpc_transport(cfg.CONF) for _ in range(plan["connections"])]
    clients = [client_of(transport) for transport in transports]
    sent: list[int] = []
    replies: dict[str, Any] = {}
    errors: list[str] = []

    def run(number: int, commands: list[dict[str, Any]]) -> None:
        try:
            for command in commands:
                reply = send(clients[number % len(clients)], plan["partitions"], **command)
                sent.append(number)
                if reply is not None:
                    replies[command["args"]["event_id"]] = reply
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=run, args=each) for each in enumerate(plan["threads"])]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    done = {"sent": len(sent), "seconds": seconds, "replies": replies, "errors": errors}
    print(json.dumps(done), flush=True)
    for transport in transports:
        transport.cleanup()


def client_of(transport: Any) -> Any:
    target = oslo_messaging.Target(exchange="tracker", topic="tracker", version="1.0")
    confirmed = oslo_messaging.TransportOptions(at_least_once=True)
    return oslo_messaging.get_rpc_client(transport, target, timeout=30, transport_options=confirmed)


def send(
    client: Any,
    partitions: int,
    method: str,
    args: dict[str, Any],
    how: str = "cast",
    server: str | None = "",
    version: str = "1.0",
) -> Any:
    if server == "":
        server = f"p{zlib.crc32(args['node'].encode()) % partitions}"
    context = {"request_id": f"req-{args.get('event_id')}"}
    return getattr(client.prepare(server=server, version=version), how)(context, method, **args)


if __name__ == "__main__":
    main()
