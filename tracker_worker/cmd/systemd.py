# SPDX-License-Identifier: Apache-2.0
"""Tells systemd what a service does: sd_notify(3), one datagram a state.

oslo.service sends READY=1 only, and systemd-watchdog neither STOPPING=1 nor RELOADING=1.
"""

import logging
import socket
from collections.abc import Mapping

from tracker_worker.core.error_text import error_text

LOG = logging.getLogger(__name__)


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET; does nothing where systemd names none.

    Any thread. Never raises, and never waits: a datagram that systemd cannot take is lost.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # Of Linux's abstract sockets, whose names begin with a zero.
            self._address = f"\0{self._address[1:]}"
        self._has_watchdog = environment.get("WATCHDOG_USEC", "").isdecimal()

    def ready(self) -> None:
        """The service has started, or reloaded."""
        self._send("READY=1")

    def reloading(self, monotonic: float) -> None:
        """The service reloads its configuration. `monotonic`: seconds of Linux's monotonic clock."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic * 1_000_000)}")

    def stopping(self) -> None:
        """The service stops."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The service is live: systemd's watchdog waits for the next call."""
        if self._has_watchdog:
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        failure = None
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.setblocking(False)
                notify.sendto(state.encode(), self._address)
        except OSError as error:
            failure = error_text(error)
        if failure is not None:
            LOG.warning("systemd was not notified of %s: %s", state.partition("\n")[0], failure)
