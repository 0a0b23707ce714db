# SPDX-License-Identifier: Apache-2.0
"""What the fork server starts is a process like any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.servers import forkserver
from tests.servers.forkserver import ROOT
from tests.servers.server import wait_until

LISTS_THREADS = "import os, sys; print(os.listdir('/proc/self/task'), os.getpid()); sys.exit(3)"
WAITS = "import signal; signal.pause()"
LEAVES_WORK = """
import atexit, threading
atexit.register(print, "handler")
threading.Thread(target=lambda: print(threading.main_thread().join() or "thread")).start()
"""
IS_FREED = """
import os, sys, threading
class Freed:
    def __del__(self, write=os.write):
        write(1, b"freed")
sys.freed = Freed()
"""
GOES_ON = IS_FREED + "threading.Thread(target=threading.Event().wait, daemon=True).start()"
STARTS_ONE = "from tests.servers import forkserver; print(forkserver.fork_server().pid)"


def test_fork_has_one_thread_of_its_own_id_and_exits_with_its_code() -> None:
    done = forkserver.run("manage", before=LISTS_THREADS)
    threads, pid = done.stdout.rsplit(maxsplit=1)
    assert (done.returncode, threads) == (3, f"['{pid}']")
    assert int(pid) != os.getpid()


def test_fork_has_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "now")
    done = forkserver.run("manage", before="import os, sys; sys.exit(os.environ['PLANTED'])")
    assert (done.returncode, done.stderr) == (1, "now\n")


def test_fork_that_was_killed_ends_with_minus_the_signal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        process = forkserver.start("manage", before=WAITS, stdout=log, stderr=log)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait() == process.poll() == -signal.SIGKILL


def test_fork_exits_after_its_threads_and_then_its_exit_handlers() -> None:
    done = forkserver.run("manage", "--version", before=LEAVES_WORK)
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, ["thread", "handler"])


@pytest.mark.parametrize(("before", "freed"), [(IS_FREED, False), (GOES_ON, True)])
def test_fork_frees_its_objects_only_while_threads_run(before: str, freed: bool) -> None:
    """Only the interpreter's last step can disturb them, and it is dear."""
    done = forkserver.run("manage", "--version", before=before)
    assert (done.returncode, done.stdout.endswith("freed")) == (0, freed)


def test_fork_server_ends_with_the_process_that_started_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTS_ONE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    wait_until(lambda: not psutil.pid_exists(int(done.stdout)), "the end of the fork server")
