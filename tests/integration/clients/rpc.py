# SPDX-License-Identifier: Apache-2.0
"""Sends what it is told, a line of JSON each, and prints what came of it, a line of JSON each.

A request has `method`, `args`, `partitions`, and may have `how` (call, cast, fanout), `server`, `version`,
`namespace`, `timeout`, `call_monitor_timeout`, and `exmods`: the modules that errors are rebuilt from.
"""

import json
import sys
import zlib
from functools import cache
from typing import Any

import oslo_messaging
from oslo_config import cfg


def main() -> None:
    cfg.CONF(["--config-file", sys.argv[1]], project="client")
    for line in sys.stdin:
        request = json.loads(line)
        transport = transport_with(tuple(request.pop("exmods")))
        try:
            answer = {"result": send(transport, **request)}
        except Exception as error:
            kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]
            answer = {"error": str(error), "kinds": kinds}
        print(json.dumps(answer), flush=True)


@cache
def transport_with(exmods: tuple[str, ...]) -> Any:
    return oslo_messaging.get_rpc_transport(cfg.CONF, allowed_remote_exmods=list(exmods))


def send(
    transport: Any,
    method: str,
    args: dict[str, Any],
    partitions: int,
    how: str = "call",
    server: str | None = "",
    version: str = "1.0",
    namespace: str | None = None,
    timeout: int = 20,
    call_monitor_timeout: int | None = None,
) -> Any:
    target = oslo_messaging.Target(exchange="tracker", topic="tracker", version=version, namespace=namespace)
    confirmed = oslo_messaging.TransportOptions(at_least_once=True)
    client = oslo_messaging.get_rpc_client(
        transport,
        target,
        timeout=timeout,
        call_monitor_timeout=call_monitor_timeout,
        retry=2,
        transport_options=confirmed,
    )
    if how == "fanout":
        return client.prepare(fanout=True).cast({}, method, **args)
    if server == "":
        server = f"p{zlib.crc32(args['node'].encode()) % partitions}"
    return getattr(client.prepare(server=server), how)({}, method, **args)


if __name__ == "__main__":
    main()
