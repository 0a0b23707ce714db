# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports that stay free while their server is down.

A port from the kernel's ephemeral range would not: a client that keeps connecting to it while the server
restarts is one day given that very port as its own, connects to itself and keeps the server out. So the ports
are below that range. A UDP socket on the same number holds each of them against other test processes, which
look there first; the kernel lets it go with the process.
"""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 20000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Port:
    """A free TCP port of the loopback interface, held until `release`."""

    def __init__(self) -> None:
        lowest_ephemeral = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32768
        candidates = range(LOWEST, max(lowest_ephemeral, LOWEST + 1000))
        for number in random.sample(candidates, 200):
            self._hold = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._hold.bind((LOOPBACK, number))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((LOOPBACK, number))
            except OSError:
                self._hold.close()
            else:
                self.number = number
                return
        raise RuntimeError(f"no free port among 200 from {candidates.start} to {candidates.stop}")

    def release(self) -> None:
        """Let others have it."""
        self._hold.close()


def listens(port: int) -> bool:
    """Whether something accepts connections on that port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
