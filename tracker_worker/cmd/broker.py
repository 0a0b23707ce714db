# SPDX-License-Identifier: Apache-2.0
"""Connections of the commands to RabbitMQ: one attempt, whose failure is one line on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

import amqp

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, close_connection, connect
from tracker_worker.bus.rabbit.permissions import alarm_of
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.urls import secrets_of


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
