# SPDX-License-Identifier: Apache-2.0
"""Kills what a cluster runs on, one after the other, and starts it again."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

MOST_FAULTS = 30
SECONDS_BETWEEN = (4.0, 9.0)
SECONDS_AWAY = (0.5, 5.0)


@dataclass(frozen=True)
class Fault:
    """Something that is killed, and started again."""

    name: str
    kill: Callable[[], None]
    start: Callable[[], None]


class Faults:
    """Causes faults in turn, on a thread of its own, until `stop` or MOST_FAULTS.

    `caused` counts them by name, `seconds` is how long what was killed was away: the start included.
    """

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self.caused: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._faults = faults
        self._chance = random.Random(seed)
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="faults")

    def start(self) -> None:
        """Begin. Any thread."""
        self._thread.start()

    def stop(self) -> None:
        """Return when all runs again. Raises what a kill or a start has raised. Any thread."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            for number in range(MOST_FAULTS if self._faults else 0):
                if self._ended.wait(self._chance.uniform(*SECONDS_BETWEEN)):
                    return
                self._cause(self._faults[number % len(self._faults)])
        except BaseException as error:
            self._failure = error

    def _cause(self, fault: Fault) -> None:
        began = time.monotonic()
        fault.kill()
        time.sleep(self._chance.uniform(*SECONDS_AWAY))
        fault.start()
        self.caused[fault.name] += 1
        self.seconds[fault.name] = self.seconds.get(fault.name, 0) + time.monotonic() - began
