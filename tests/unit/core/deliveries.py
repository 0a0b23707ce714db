# SPDX-License-Identifier: Apache-2.0
"""Deliveries of the tests of the pure middle: bytes and where they came from."""

import itertools
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tests.builders import NODE, args_of, method_of
from tracker_worker.core.delivery import Answer
from tracker_worker.core.envelope import encode
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.partitions import partition_of

PARTITIONS = 4
_ids = itertools.count(1)


class Came(Struct, frozen=True):
    """A delivery that nobody settles: the pure middle only reads it."""

    body: bytes
    partition: int = partition_of(NODE, PARTITIONS)
    redelivered: bool = False
    compression: str | None = None
    received_at: float = 0.0
    live: bool = True
    dead_lettered: str | None = None

    def settle(self, answer: Answer) -> None:
        raise AssertionError(f"settled before the commit: {answer}")


def delivery_of(command: AnyCommand, event_id: str | None = None, **how: Any) -> Came:
    """A command as it comes from the queue of its node."""
    own = event_id or command.event_id or f"id-{next(_ids)}"
    args = args_of(replace(command, event_id=own))
    body = encode(method_of(command), args)
    return Came(body, **({"partition": partition_of(command.node, PARTITIONS)} | how))
