# SPDX-License-Identifier: Apache-2.0
"""Calls of a nova-compute to the worker. One waits for a worker that does not answer; those after it do not.

Nova makes them in its lock, in which claims and audits of a host wait for each other: without this, each of
them would wait for the whole timeout.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from oslo_messaging import MessagingException

from tracker_worker.exceptions import TrackerUnavailable, TrackerWorkerException
from tracker_worker.nova.cast_queue import RETRY_SECONDS, CastQueue, Job
from tracker_worker.rpcapi import TrackerAPI

LOG = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
"""What the first probe waits for an answer; the next ones wait twice as long, up to the timeout of calls."""

UNANSWERED = (TrackerUnavailable, MessagingException)


class Calls:
    """Makes calls, one at a time, until one gets no answer. Then calls fail at once until a probe gets one.

    Probes go through the queue, on the sender thread: a call has a way to the worker when a probe had one.
    """

    def __init__(self, casts: CastQueue) -> None:
        self.is_silent = False
        self._casts = casts
        self._has_logged = False

    def make(self, node: str, job: Job) -> Any:
        """Return what the job returns. Raises what it raises, and TrackerUnavailable while probes fail.

        `node` is the one that the call concerns, for which probes ask.
        """
        if self.is_silent:
            raise TrackerUnavailable("The worker has answered neither an earlier call nor a probe since")
        try:
            return self._casts.call(job)
        except UNANSWERED:
            self.begin_probes(node)
            raise

    def begin_probes(self, node: str) -> None:
        """Let calls fail at once from now on: the worker has not answered one about this node."""
        self.is_silent, self._has_logged = True, False
        waits = itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1]))
        seconds = min(PROBE_SECONDS, self._casts.timeout)
        self._casts.put_always(lambda api: self._probe(api, node, seconds, waits))
        # Last: a handler of the log may raise, and without a probe calls would fail for ever.
        LOG.warning("The worker does not answer: calls fail at once until it does")

    def _probe(self, api: TrackerAPI, node: str, seconds: float, waits: Iterator[float]) -> None:
        """Ask for the node, again after the next of `waits` if there is no answer. Sender thread."""
        if self._is_answered(api.within(seconds), node):
            self.is_silent = False
            LOG.info("The worker answers again")
            return
        longer = min(2 * seconds, self._casts.timeout)
        self._casts.put_later(next(waits), lambda api: self._probe(api, node, longer, waits))

    def _is_answered(self, api: TrackerAPI, node: str) -> bool:
        try:
            api.get_node({}, node)
        except UNANSWERED:
            return False
        except TrackerWorkerException:
            return True  # An answer, too: the node was removed meanwhile, say.
        except Exception:
            if not self._has_logged:
                with suppress(Exception):  # What a handler of the log raises would end the probes.
                    LOG.exception("The worker cannot be asked whether it answers again: further probes try")
            self._has_logged = True
            return False
        return True
