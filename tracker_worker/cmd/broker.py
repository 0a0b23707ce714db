# SPDX-License-Identifier: Apache-2.0
"""Connections of the commands to RabbitMQ: one attempt, whose failure is one line on standard error."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import amqp
from msgspec.structs import replace

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, close_connection, connect
from tracker_worker.bus.rabbit.permissions import alarm_of, try_publishing
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.urls import secrets_of

SHORT_HEARTBEAT = 10
"""Seconds, of a connection that may have to be given up: see `try_to_publish`."""


@contextmanager
def connected(
    settings: BrokerSettings, purpose: str = "manage", option: str = "[DEFAULT] transport_url"
) -> Iterator[amqp.Connection]:
    """Yield a connection to the broker that an option names.

    Raises CommandFailed if the broker cannot be used, and BrokerAlarm while it blocks publishers.
    """
    with reporting_broker_errors(settings, option):
        connection = connect(settings, purpose, alarm_of(settings.name))
        try:
            yield connection
        finally:
            close_connection(connection)


@contextmanager
def reporting_broker_errors(settings: BrokerSettings, option: str) -> Iterator[None]:
    """Convert errors of the broker that an option names to CommandFailed."""
    try:
        yield
    except CONNECTION_ERRORS as error:
        text = driver_text(error, secrets_of(*settings.urls))
        is_permission_missing = isinstance(error, amqp.AccessRefused) and "access to" in text
        hint = (
            "give the user configure, write and read: rabbitmqctl set_permissions"
            if is_permission_missing
            else f"see {option}"
        )
        raise CommandFailed(f"RabbitMQ at {settings.name} cannot be used: {text}; {hint}") from error


def try_to_publish(
    settings: BrokerSettings,
    exchange: str,
    routing_keys: Iterable[str],
    option: str = "[DEFAULT] transport_url",
) -> None:
    """Do on a connection of its own what `permissions.try_publishing` does.

    In an alarm RabbitMQ reads nothing more from a connection that publishes, the close included, and keeps it
    until the alarm ends or one of its own heartbeats fails: soon, if they are frequent.
    """
    with connected(replace(settings, heartbeat=SHORT_HEARTBEAT), option=option) as connection:
        try_publishing(connection, exchange, routing_keys)
