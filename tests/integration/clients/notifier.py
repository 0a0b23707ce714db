# SPDX-License-Identifier: Apache-2.0
"""Publishes a notification for each line that it reads, on a connection of its own, and echoes the line.

The line is the event type; it ends with the priority.
"""

import sys

import oslo_messaging
from oslo_config import cfg


def main() -> None:
    cfg.CONF(["--config-file", sys.argv[1]], project="client")
    oslo_messaging.set_transport_defaults("nova")
    for line in sys.stdin:
        transport = oslo_messaging.get_notification_transport(cfg.CONF)
        notifier = oslo_messaging.Notifier(
            transport, "nova-compute:h", driver="messagingv2", topics=["versioned_notifications"], retry=0
        )
        publish = notifier.error if line.strip().endswith("error") else notifier.info
        publish({}, line.strip(), {"from": "nova"})
        transport.cleanup()
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main()
