# SPDX-License-Identifier: Apache-2.0
"""The loop of a watch: receives, applies, shows; connects again when the connection is lost."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime

import amqp
from msgspec import Struct

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings
from tracker_worker.bus.rabbit.notification_listener import NotificationListener
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.watch.entries import Entry, Kind
from tracker_worker.cmd.watch.outputs import DRAW_SECONDS, Output
from tracker_worker.cmd.watch.picture import Picture
from tracker_worker.cmd.watch.screen import Status
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.received_notification import NotificationData, Unreadable, read_notification
from tracker_worker.core.urls import secrets_of


class Clocks(Struct, frozen=True):
    """Clocks of a program: seconds that are never set back, UTC, and a pause in seconds."""

    monotonic: Callable[[], float]
    utc: Callable[[], datetime]
    sleep: Callable[[float], None]


class Watch:
    """Belongs to the main thread. `usages` are read from the database, a chunk at a time, once the queue is
    bound: what changes after that is received.
    """

    def __init__(
        self,
        listener: NotificationListener,
        broker: BrokerSettings,
        picture: Picture,
        usages: Iterator[list[NotificationData]],
        clocks: Clocks,
    ) -> None:
        self._listener = listener
        self._broker = broker
        self._picture = picture
        self._usages = usages
        self._clocks = clocks
        self._pause = broker.retry_initial
        self._next_attempt = 0.0
        self._lost: str | None = None
        self._lost_at = 0.0

    @property
    def status(self) -> Status:
        """The state of the connection."""
        text = f"RabbitMQ {self._broker.name}"
        if self._lost is None:
            return Status(f"{text}: connected")
        return Status(f"{text}: not connected, trying again: {self._lost}", lost=True)

    def run(self, output: Output, seconds: float | None = None) -> None:
        """Show what is received, for ever or for so many seconds. Raises the errors of the output."""
        end = math.inf if seconds is None else self._clocks.monotonic() + seconds
        while (now := self._clocks.monotonic()) < end:
            self._turn(output, min(DRAW_SECONDS, end - now))

    def _turn(self, output: Output, seconds: float) -> None:
        bodies = self._receive(output, seconds)
        now = self._clocks.monotonic()
        for body in bodies:
            self._apply(body, output, now)
        self._picture.left_out["too large"] = self._listener.oversized
        output.refresh(self._picture, self.status, now)
        if self._listener.is_connected:
            self._fill(output)

    def _fill(self, output: Output) -> None:
        try:
            self._picture.fill(next(self._usages, []))
        except CommandFailed as error:
            self._report("database", f"its nodes are not shown: {error}", output)

    def _receive(self, output: Output, seconds: float) -> list[bytes]:
        """Return what has been received; nothing while there is no connection. Lasts about `seconds`."""
        try:
            if self._listener.is_connected:
                return self._listener.receive(seconds)
            if self._clocks.monotonic() < self._next_attempt:
                self._clocks.sleep(seconds)
                return []
            self._listener.connect()
        except CONNECTION_ERRORS as error:
            self._lose(error, output)
            return []
        self._resume(output)
        return []

    def _lose(self, error: Exception, output: Output) -> None:
        self._listener.close()
        now = self._clocks.monotonic()
        self._next_attempt = now + self._pause
        self._pause = min(self._pause * 2, self._broker.retry_max)
        text = driver_text(error, secrets_of(*self._broker.urls))
        if isinstance(error, amqp.NotFound):
            text += "; a worker declares it when it first publishes"
        if self._lost is None:
            self._lost_at = now
            self._report(f"RabbitMQ {self._broker.name}", f"not connected, trying again: {text}", output)
        self._lost = text

    def _resume(self, output: Output) -> None:
        seconds = self._clocks.monotonic() - self._lost_at
        self._lost = None
        self._pause = self._broker.retry_initial
        text = f"connected after {seconds:.0f} s: what was published meanwhile is missing"
        self._report(f"RabbitMQ {self._broker.name}", text, output)

    def _report(self, server: str, text: str, output: Output) -> None:
        entry = Entry(self._clocks.utc().isoformat(sep=" "), Kind.WATCH, server, text)
        self._picture.add(entry)
        output.report(entry)

    def _apply(self, body: bytes, output: Output, now: float) -> None:
        try:
            notification = read_notification(body)
        except Unreadable:
            self._picture.left_out["unreadable"] += 1
            return
        if notification is None:
            self._picture.left_out["of other services"] += 1
            return
        entries = self._picture.apply(notification, now)
        if entries is not None:
            output.show(notification, entries)
