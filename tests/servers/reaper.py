# SPDX-License-Identifier: Apache-2.0
"""Ends a server and removes its directory once the test process is gone, in whatever way it went.

Finalizers do not run in a process that is killed, and a signal on the parent's death (PR_SET_PDEATHSIG) would
come when the thread that started the server ends. A shell at the other end of a pipe sees the process go.
"""

import subprocess
from pathlib import Path

# It holds what `kill` gets from the last line that it read; an empty line is nobody.
SCRIPT = """
while read -r line; do doomed=$line; done
[ -z "$doomed" ] || kill $doomed
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" && exit
    sleep 0.3
done 2>/dev/null
"""


class Reaper:
    """Watches over processes and a directory, from a session of its own that no ctrl-C reaches."""

    def __init__(self, directory: Path) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "reaper", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            text=True,
        )

    def watch(self, signal: str, *pids: int) -> None:
        """Send this signal to these processes at the end, instead of what was said before."""
        self._say(" ".join([f"-{signal}", *map(str, pids)]))

    def forget(self) -> None:
        """Nothing runs: a pid that is used again must not be hit."""
        self._say("")

    def close(self) -> None:
        """End the processes and remove the directory now."""
        self._shell.communicate()

    def _say(self, line: str) -> None:
        assert self._shell.stdin
        self._shell.stdin.write(f"{line}\n")
        self._shell.stdin.flush()
