# SPDX-License-Identifier: Apache-2.0
"""A connection for publishing, opened on first use and kept alive while it is idle."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import amqp

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, close_connection, connect
from tracker_worker.bus.rabbit.publish_frames import OutgoingMessage, publish_frames
from tracker_worker.bus.rabbit.socket_io import read_waiting, waiting
from tracker_worker.core.error_text import driver_text

LOG = logging.getLogger(__name__)

WAIT_SECONDS = 1.0


class PublishConnection:
    """Belongs to one thread, which calls `keep_alive` often. `prepare` is called with each new channel."""

    def __init__(self, settings: BrokerSettings, purpose: str, prepare: Callable[[Any], None]) -> None:
        self.alarm: str | None = None
        """Why the broker takes no messages, in its own words; None while it takes them, or is away."""
        self._settings = settings
        self._purpose = purpose
        self._prepare = prepare
        self._connection: amqp.Connection | None = None
        self._channel: Any = None

    def channel(self) -> Any:
        """Return the channel. Opens the connection if there is none. Raises CONNECTION_ERRORS."""
        if self._connection is None:
            self._connection = connect(self._settings, self._purpose, self._block)
            try:
                self._channel = self._connection.channel()
                self._prepare(self._channel)
            except CONNECTION_ERRORS:
                self.close()
                raise
        return self._channel

    def publish(self, messages: Iterable[OutgoingMessage]) -> None:
        """Process what has arrived, and publish messages on the channel in one write.

        Returns before the broker has them. Raises CONNECTION_ERRORS, and has written nothing if reading
        raised them.
        """
        channel_id, connection = self.channel().channel_id, self._connection
        assert connection is not None
        # The broker may have closed the channel, or return messages until they are read.
        self._read(connection)
        frames = [publish_frames(message, channel_id, connection.frame_max) for message in messages]
        connection.transport.write(b"".join(frames))
        connection.bytes_sent += 1  # As py-amqp's frame writer does, for the heartbeat.

    def wait(self) -> None:
        """Process frames that arrive within WAIT_SECONDS; keep the heartbeat. Raises CONNECTION_ERRORS."""
        assert self._connection is not None
        waiting(self._connection, WAIT_SECONDS)
        self._read(self._connection)

    def keep_alive(self) -> None:
        """Process the received frames and keep the heartbeat, if there is a connection; log its loss."""
        if self._connection is None:
            return
        lost = None
        try:
            self._read(self._connection)
        except CONNECTION_ERRORS as error:
            lost = driver_text(error)
            self.close()
        if lost is not None:
            name = self._settings.name
            LOG.warning("The connection 'tracker-worker %s' to %s is lost: %s", self._purpose, name, lost)

    def another_channel(self) -> Any:
        """Return a new channel, as for a declaration: the broker closes the channel if it refuses that."""
        assert self._connection is not None
        return self._connection.channel()

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self.alarm = self._connection, None, None
        if connection is not None:
            close_connection(connection)

    def _block(self, reason: str | None) -> None:
        if reason is None:
            LOG.info("RabbitMQ at %s takes messages again", self._settings.name)
        else:
            LOG.warning("RabbitMQ at %s has an alarm and takes no messages: %s", self._settings.name, reason)
        self.alarm = reason

    def _read(self, connection: amqp.Connection) -> None:
        read_waiting(connection)
        connection.heartbeat_tick(rate=self._settings.heartbeat_rate)
