# SPDX-License-Identifier: Apache-2.0
"""The usage notification of the contestants that are not tracker-worker: the documented sample, filled in."""

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

EVENT_TYPE = "compute_node.usage"
EXCHANGE, TOPIC = "nova", "versioned_notifications"
PUBLISHER_ID = "tracker-worker:benchmark"
SAMPLES = Path(__file__).resolve().parents[3] / "doc" / "notification_samples"


class UsagePayload:
    """Makes payloads of the size and shape of tracker-worker's."""

    def __init__(self) -> None:
        sample = json.loads((SAMPLES / f"{EVENT_TYPE}.json").read_text())
        self._payload: Json = sample["payload"]
        self._data: Json = self._payload["nova_object.data"]

    def of(self, figures: Json, cause: Json, events: int = 1) -> Json:
        """The payload of a node with these figures after so many events; `cause` is the last one."""
        told = self._data["cause"] | {"nova_object.data": cause}
        return self._payload | {"nova_object.data": self._data | figures | {"events": events, "cause": told}}


def message_of(payload: Json, message_id: str, timestamp: str) -> Json:
    """The message of a messagingv2 notification, without oslo.messaging's outer envelope."""
    return {
        "message_id": message_id,
        "publisher_id": PUBLISHER_ID,
        "event_type": EVENT_TYPE,
        "priority": "INFO",
        "payload": payload,
        "timestamp": timestamp,
        "_unique_id": message_id.replace("-", ""),
    }
