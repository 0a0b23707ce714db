# SPDX-License-Identifier: Apache-2.0
"""Calls as oslo.messaging's driver sends them, and what is replied as it reads it."""

from typing import Any

import msgspec
from oslo_messaging._drivers.common import deserialize_msg

from tracker_worker.bus.rabbit.replies import Reply
from tracker_worker.core.envelope import encode


def a_call(**more: Any) -> bytes:
    """A call as the driver sends it: a cast with two fields more."""
    outer = msgspec.json.decode(encode("get_node", {"node": "n"}))
    inner = msgspec.json.decode(outer["oslo.message"])
    inner |= {"_msg_id": "id-1", "_reply_q": "reply_1", "_timeout": 60, **more}
    return msgspec.json.encode(outer | {"oslo.message": msgspec.json.encode(inner).decode()})


def received(reply: Reply | None) -> dict[str, Any]:
    assert reply is not None, "the caller gets none"
    message: dict[str, Any] = deserialize_msg(msgspec.json.decode(reply.body))
    return message
