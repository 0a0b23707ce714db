# SPDX-License-Identifier: Apache-2.0
"""Notifications as workers send them: the documented samples, with the values that a test names."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

from tests.samples import body

SAMPLES = Path(__file__).resolve().parents[1] / "doc" / "notification_samples"
DATA = "nova_object.data"

Json = dict[str, Any]

_numbers = itertools.count(1)
_samples = {path.stem: json.loads(path.read_text()) for path in SAMPLES.glob("*.json")}


def sent(action: str, **data: Any) -> Json:
    """The sample of `compute_node.<action>`, with these data and an id of its own."""
    message: Json = copy.deepcopy(_samples[f"compute_node.{action}"])
    message["message_id"] = f"00000000-0000-4000-8000-{next(_numbers):012}"
    message["payload"][DATA] |= data
    return message


def sent_usage(node: str, sequence: int, since: int, **data: Any) -> Json:
    """A usage notification of a node of 8 vcpus, 16384 MB and 100 GB, all ratios 1, without stats."""
    figures: Json = {"cpu_allocation_ratio": 1.0, "stats": {}} | data
    return sent("usage", node=node, sequence=sequence, since=since, **figures)


def of_nova() -> Json:
    """A notification of nova-compute, which goes to the same queue."""
    return {
        "message_id": "n-1",
        "publisher_id": "nova-compute:host-1",
        "event_type": "instance.create.end",
        "priority": "INFO",
        "payload": {
            "nova_object.namespace": "nova",
            "nova_object.name": "InstanceCreatePayload",
            DATA: {"node": ["another type"], "sequence": "one"},
        },
        "timestamp": "2026-11-22 12:00:00.123456",
    }


def body_of(message: Json) -> bytes:
    """The body of a message on the wire."""
    return body(message)
