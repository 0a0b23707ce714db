# SPDX-License-Identifier: Apache-2.0
"""Checks the permissions of a user on a broker with commands that have no effect.

RabbitMQ checks the user's permissions before the arguments. The commands here have an invalid argument (a
consumer priority or a message expiration that is no number), so that nothing is consumed or routed. The
permission to declare and bind is checked with what exists on the broker (see `inspection`).
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import amqp


class BrokerAlarm(Exception):
    """The broker has a memory or disk alarm and accepts no messages; the text names broker and reason."""


def alarm_text(broker: str, reason: str) -> str:
    """Return that a broker has an alarm, what follows, and where to look."""
    return (
        f"RabbitMQ at {broker} has an alarm and takes no messages, of clients and of workers: {reason}; see "
        "'rabbitmq-diagnostics alarms'"
    )


def alarm_of(broker: str) -> Callable[[str | None], None]:
    """Return a `blocked` callback that raises BrokerAlarm when the broker blocks the connection."""

    def blocked(reason: str | None) -> None:
        if reason is not None:
            raise BrokerAlarm(alarm_text(broker, reason))

    return blocked


def try_consuming(connection: amqp.Connection, queues: Iterable[str]) -> None:
    """Raise amqp.AccessRefused if the user may not consume from a queue. The queue may be missing."""
    for queue in queues:
        channel = connection.channel()  # The broker closes it.
        with suppress(amqp.PreconditionFailed, amqp.NotFound):
            channel.basic_consume(queue, arguments={"x-priority": "none"})
            channel.close()


def try_publishing(connection: amqp.Connection, exchange: str, routing_keys: Iterable[str]) -> None:
    """Raise amqp.AccessRefused if the user may not publish, BrokerAlarm if the broker has an alarm.

    The `blocked` callback of the connection must be the one that `alarm_of` returns.
    """
    for routing_key in routing_keys:
        channel = connection.channel()  # The broker closes it.
        with suppress(amqp.PreconditionFailed, amqp.NotFound):
            channel.basic_publish(amqp.Message(b"", expiration="none"), exchange, routing_key)
            channel.basic_qos(0, 1, False)  # Synchronous: returns after the publish was processed.
            channel.close()
