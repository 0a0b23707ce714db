# SPDX-License-Identifier: Apache-2.0
"""Runs a tap around a method of Nova: what it does is cast, and nothing of it reaches Nova."""

import functools
import inspect
import logging
from collections.abc import Callable, Generator
from typing import Any

from nova import utils
from nova.compute.resource_tracker import COMPUTE_RESOURCE_SEMAPHORE

LOG = logging.getLogger(__name__)

_NOT_CAST = "A change of the resource tracker is not cast: the next audit corrects the ledger"

Tap = Generator[None, Any, None]
"""Runs before Nova's method up to its yield, which returns the method's result, and after it to its end.

What follows the yield is left out when the method raises.
"""


def tapped(method: Callable[..., Any], tap: Callable[..., Tap]) -> Callable[..., Any]:
    """Return Nova's method with a tap around it. An exception of the tap is logged."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        running = tap(*args, **kwargs)
        if not _advance(running, None):
            return method(*args, **kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException:
            _close(running)
            raise
        _advance(running, result)
        return result

    return run


def tapped_in_lock(method: Callable[..., Any], tap: Callable[..., Tap]) -> Callable[..., Any]:
    """Return a method that takes Nova's lock with a tap inside that lock: casts have its order."""
    run = tapped(inspect.unwrap(method), tap)
    locked: Callable[..., Any] = utils.synchronized(COMPUTE_RESOURCE_SEMAPHORE, fair=True)(run)
    return locked


def _close(running: Tap) -> None:
    """End a tap whose method has raised: what the tap raises must not hide that."""
    try:
        running.close()
    except Exception:
        LOG.exception(_NOT_CAST)


def _advance(running: Tap, result: Any) -> bool:
    """Run a tap to its yield or its end; tell whether it stands at its yield."""
    try:
        running.send(result)
    except StopIteration:
        return False
    except Exception:
        LOG.exception(_NOT_CAST)
        return False
    return True
