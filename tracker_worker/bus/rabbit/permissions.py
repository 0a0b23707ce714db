# SPDX-License-Identifier: Apache-2.0
"""What a user may do on a broker, found out by doing it without a trace.

RabbitMQ compares a command with the user's permissions first, and only then finds that the command is
invalid: a consumer whose priority is no number, a message whose expiration is none. Nothing is consumed or
routed. Declaring and binding is tried on what is there as it should be (see `inspection`).
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import amqp


class BrokerAlarm(Exception):
    """The broker is short of memory or disk and takes no messages; the text names it and its reason."""


def alarm_of(broker: str) -> Callable[[str | None], None]:
    """Return the callback of a connection that is given up, by BrokerAlarm, when the broker blocks it."""

    def blocked(reason: str | None) -> None:
        if reason is not None:
            raise BrokerAlarm(
                f"RabbitMQ at {broker} has an alarm and takes no messages, of clients and of workers: "
                f"{reason}; see 'rabbitmq-diagnostics alarms'"
            )

    return blocked


def try_consuming(connection: amqp.Connection, queues: Iterable[str]) -> None:
    """Raise amqp.AccessRefused where the user may not consume from a queue, missing ones included."""
    for queue in queues:
        channel = connection.channel()  # The broker closes it.
        with suppress(amqp.PreconditionFailed, amqp.NotFound):
            channel.basic_consume(queue, arguments={"x-priority": "none"})
            channel.close()


def try_publishing(connection: amqp.Connection, exchange: str, routing_keys: Iterable[str]) -> None:
    """Raise amqp.AccessRefused where the user may not publish, BrokerAlarm where nobody may at the moment.

    The connection must have `alarm_of` its broker as its callback.
    """
    for routing_key in routing_keys:
        channel = connection.channel()  # The broker closes it.
        with suppress(amqp.PreconditionFailed, amqp.NotFound):
            channel.basic_publish(amqp.Message(b"", expiration="none"), exchange, routing_key)
            channel.basic_qos(0, 1, False)  # Waits for an answer.
            channel.close()
