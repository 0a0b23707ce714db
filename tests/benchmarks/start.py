# SPDX-License-Identifier: Apache-2.0
"""Time the start of tracker-worker-manage: `python -m tests.benchmarks.start [--runs N]`.

Prints the median CPU time of interleaved runs, and its ratio to that of an import of SQLAlchemy alone. (The
time of a clock depends on what else the machine does.)
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tracker_worker.cmd.bootstrap import embedded_engine

MANAGE = "import sys; from tracker_worker.cmd.manage import main; sys.exit(main())"


def cpu_seconds(*arguments: str) -> float:
    """Return the CPU time of a Python process that goes well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, metavar="N")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        embedded_engine(Path(directory)).dispose()
        file = Path(directory, "manage.conf")
        file.write_text(f"[DEFAULT]\nstate_path = {directory}\n")
        programs = {
            "import sqlalchemy": ("import sqlalchemy",),
            "--version": (MANAGE, "--version"),
            "--help": (MANAGE, "--help"),
            "node list": (MANAGE, "--config-file", str(file), "node", "list"),
        }
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(runs):
            for name, arguments in programs.items():
                times[name].append(cpu_seconds(*arguments))
    reference = median(times["import sqlalchemy"])
    for name, seconds in times.items():
        print(f"{name:20} {median(seconds) * 1000:5.0f} ms {median(seconds) / reference:5.2f}")


if __name__ == "__main__":
    main()
