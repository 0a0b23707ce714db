# SPDX-License-Identifier: Apache-2.0
"""A log that cannot be written: logging raises, as oslo.log's handlers do where journald is away."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unwritable_log(logger: str, beginning: str = "") -> Iterator[None]:
    """Let lines of a logger raise OSError whose text begins with this."""

    def write(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(beginning):
            raise OSError("the journal is full")
        return True

    log = logging.getLogger(logger)
    level = log.level
    log.addFilter(write)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeFilter(write)
        log.setLevel(level)
