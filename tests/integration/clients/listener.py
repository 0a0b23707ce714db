# SPDX-License-Identifier: Apache-2.0
"""Listens to notifications and prints each as a line of JSON, in the order in which they come."""

import json
import sys
from typing import Any

import oslo_messaging
from oslo_config import cfg


class Endpoint:
    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        show("INFO", publisher_id, event_type, payload, metadata)

    def error(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        show("ERROR", publisher_id, event_type, payload, metadata)


def show(priority: str, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
    said = {"priority": priority, "publisher_id": publisher_id, "event_type": event_type, "payload": payload}
    print(json.dumps(said | metadata), flush=True)


def main() -> None:
    cfg.CONF(["--config-file", sys.argv[1]], project="client")
    transport = oslo_messaging.get_notification_transport(cfg.CONF)
    target = oslo_messaging.Target(exchange="nova", topic="versioned_notifications")
    listener = oslo_messaging.get_notification_listener(transport, [target], [Endpoint()])
    listener.start(override_pool_size=1)
    sys.stdin.read()
    listener.stop()
    listener.wait()
    transport.cleanup()


if __name__ == "__main__":
    main()
