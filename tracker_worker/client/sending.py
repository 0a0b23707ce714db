# SPDX-License-Identifier: Apache-2.0
"""An RPC transport with a deadline for each send, which covers connecting, publishing and the confirm.

oslo.messaging limits none of the three. A broker with a memory or disk alarm stops reading, and a publisher
waits until the alarm ends; only the heartbeat detects a host that is down. Each send therefore runs on a
sender thread, and its caller waits until the deadline at most.

An overdue send continues, because bytes written to a socket cannot be withdrawn. Until it has ended, nothing
else is sent to its server: a later command never overtakes an earlier one of the same caller.

A broker that restarts loses the queues of replies. A worker that is back before the caller has declared its
queue again cannot reply. A call is therefore sent again while it has no reply: the worker knows the event,
and returns the first reply.
"""

import copy
import logging
import math
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self

from oslo_messaging import MessagingTimeout

from tracker_worker.core.envelope import call_fields
from tracker_worker.private_apis.oslo_messaging import CallReplies, InterposedTransport

LOG = logging.getLogger(__name__)

IDLE_SECONDS = 60.0

RESEND_SECONDS = 10.0
"""How long a call waits for its reply before it is sent again; after that twice as long each time."""


class DeadlineExceeded(Exception):
    """The broker did not confirm in time. `sent` is False if the message was not published at all."""

    def __init__(self, sent: bool) -> None:
        super().__init__("overdue" if sent else "not sent")
        self.sent = sent


class _Send:
    """The send of one message. The sender thread or the caller settles it, whichever is first.

    If the sender thread is first, it puts the result and the error of `publish` into `outcome`. Otherwise it
    calls `abandoned` with whether the message was confirmed, and sets `ended`.
    """

    def __init__(self, server: str, publish: Callable[[], Any], abandoned: Callable[[bool], None]) -> None:
        self.server = server
        self.publish = publish
        self.abandoned = abandoned
        self.ended = threading.Event()
        self.outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._unsettled: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unsettled.put(None)

    def settle(self) -> bool:
        """Return whether this call is the first one."""
        try:
            self._unsettled.get_nowait()
        except queue.Empty:
            return False
        return True


class _Senders:
    """At most `size` threads, which end after a minute without work.

    They are daemon threads, so that a process can exit while a broker blocks them. At exit concurrent.futures
    would wait for its threads.
    """

    def __init__(self, size: int) -> None:
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._slots.put(None)
        self._idle: set[queue.SimpleQueue[Callable[[], None]]] = set()

    def start(self, job: Callable[[], None], seconds: float) -> None:
        """Run a job, which must not raise.

        Raises queue.Empty when no thread is free within `seconds`, RuntimeError when the system has none.
        """
        self._slots.get(timeout=seconds)
        try:
            inbox = self._idle.pop()
        except KeyError:
            inbox = queue.SimpleQueue()
            thread = threading.Thread(target=self._work, args=[inbox], name="tracker-sender", daemon=True)
            try:
                thread.start()
            except BaseException:
                self._slots.put(None)
                raise
        inbox.put(job)

    def _work(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                job = inbox.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                try:
                    self._idle.remove(inbox)
                except KeyError:
                    continue  # `start` has just taken this thread and puts a job.
                return
            job()
            del job
            self._idle.add(inbox)
            self._slots.put(None)


class BoundedTransport(InterposedTransport):
    """Sends through oslo.messaging's RabbitMQ driver, for oslo.messaging's own RPCClient. Any thread.

    `timeout` is the deadline of a cast in seconds; RPCClient passes that of a call, which covers the reply.
    `prepare` is called before each send on the sender thread, with True for a call. `new_id` makes ids of
    calls, `monotonic` is a clock in seconds that is never set back.
    """

    def __init__(
        self,
        driver: Any,
        timeout: float,
        prepare: Callable[[bool], None],
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(driver)
        options = driver.conf.oslo_messaging_rabbit
        self._replies = CallReplies(driver)
        self._timeout = timeout
        self._prepare = prepare
        self._new_id = new_id
        self._monotonic = monotonic
        self._undo: Callable[[], None] | None = None
        self._senders = _Senders(options.rpc_conn_pool_size)
        self._overdue: set[_Send] = set()
        self._heartbeat = options.heartbeat_timeout_threshold

    def within(self, seconds: float) -> Self:
        """Return this transport with another deadline for casts."""
        bounded = copy.copy(self)
        bounded._timeout = seconds
        return bounded

    def undone_by(self, undo: Callable[[], None]) -> Self:
        """Return this transport with a callback, which the sender thread calls when an overdue send ends."""
        undoing = copy.copy(self)
        undoing._undo = undo
        return undoing

    def send(
        self,
        target: Any,
        ctxt: Any,
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """Send for RPCClient. Raises DeadlineExceeded, MessagingTimeout, and the driver's errors."""
        deadline = self._monotonic() + (timeout or self._timeout)
        send = partial(self.driver.send, target, ctxt, retry=retry, transport_options=transport_options)
        if not wait_for_reply:
            self._in_time(target.server, deadline, partial(self._publish_cast, send, message))
            return None
        waiter_id = self._new_id()
        publish = partial(self._publish_call, send, message, waiter_id, deadline)
        first = partial(self._publish_first, publish, waiter_id)
        reply_queue = self._in_time(target.server, deadline, first, waiter_id)
        wait = partial(self._replies.wait, waiter_id, monitor_seconds=call_monitor_timeout, queue=reply_queue)
        # The heartbeats of a monitored call say that it was received.
        resend_seconds = math.inf if call_monitor_timeout else RESEND_SECONDS
        try:
            reply = self._reply(target.server, deadline, resend_seconds, wait, publish)
        finally:
            self._replies.forget(waiter_id)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _reply(
        self,
        server: str,
        deadline: float,
        seconds: float,
        wait: Callable[..., Any],
        publish: Callable[[], Any],
    ) -> Any:
        """Return the reply to a call, which is published again after `seconds`. Raises MessagingTimeout.

        Raises DeadlineExceeded if what was published again is overdue.
        """
        while True:
            left = max(deadline - self._monotonic(), 0.0)
            try:
                return wait(seconds=min(left, seconds))
            except MessagingTimeout:
                if left <= seconds:
                    raise
            LOG.info("A call to server %s has no reply after %g s and is sent again", server, seconds)
            try:
                self._in_time(server, deadline, publish)
            except DeadlineExceeded as overdue:
                if overdue.sent:
                    raise
            except Exception as error:
                LOG.info("A call to server %s could not be sent again: %s", server, error)
            seconds *= 2

    def _publish_cast(self, send: Callable[..., Any], message: dict[str, Any]) -> None:
        self._prepare(False)
        send(message)

    def _publish_first(self, publish: Callable[[], str], waiter_id: str) -> str:
        """Publish a call as the driver's own `send` does, and keep its reply; return the reply queue."""
        self._prepare(True)
        self._replies.queue()
        self._replies.expect(waiter_id)
        try:
            return publish()
        except BaseException:
            self._replies.forget(waiter_id)
            raise

    def _publish_call(
        self, send: Callable[..., Any], message: dict[str, Any], waiter_id: str, deadline: float
    ) -> str:
        """Publish a call whose reply is expected; return the reply queue."""
        reply_queue = self._replies.queue()
        # The driver uses the timeout for the socket too. Below the heartbeat's it would abandon connections
        # to a broker with an alarm. Each would contain a copy of the command, to arrive in any order.
        expiration = max(deadline - self._monotonic(), self._heartbeat)
        send(message | call_fields(waiter_id, reply_queue), timeout=expiration)
        return reply_queue

    def _in_time(
        self, server: str, deadline: float, publish: Callable[[], Any], waiter_id: str | None = None
    ) -> Any:
        """Run `publish` on a sender thread and return its result. Raises DeadlineExceeded."""
        for earlier in [send for send in self._overdue.copy() if send.server == server]:
            if not earlier.ended.wait(max(deadline - self._monotonic(), 0.0)):
                raise DeadlineExceeded(sent=False)
        send = _Send(server, publish, partial(self._abandoned, waiter_id))
        try:
            self._senders.start(partial(self._run, send), max(deadline - self._monotonic(), 0.0))
        except queue.Empty:
            raise DeadlineExceeded(sent=False) from None
        value, failure = self._outcome(send, deadline)
        if failure is not None:
            raise failure
        return value

    def _outcome(self, send: _Send, deadline: float) -> tuple[Any, Exception | None]:
        """Wait for the outcome of a send; abandon the send at the deadline or on an interrupt."""
        try:
            return send.outcome.get(timeout=max(deadline - self._monotonic(), 0.0))
        except BaseException as error:
            self._overdue.add(send)  # Before it is abandoned: no later send may overtake it.
            late = isinstance(error, queue.Empty)
            if send.settle():
                if late:
                    raise DeadlineExceeded(sent=True) from None
                raise
            self._overdue.discard(send)
            if not late:
                raise
        return send.outcome.get()  # The sender thread was first.

    def _run(self, send: _Send) -> None:
        """Publish, on the sender thread. The caller may have abandoned the send by the end."""
        value, failure = None, None
        try:
            value = send.publish()
        except Exception as error:
            failure = error
        if send.settle():
            send.outcome.put((value, failure))
            return
        try:
            send.abandoned(failure is None)
            LOG.warning("What was overdue for server %s has ended: %s", send.server, failure or "confirmed")
        except Exception:
            with suppress(Exception):  # A handler of the log may raise, a job must not.
                LOG.exception("What was overdue for server %s could not be undone", send.server)
        finally:
            self._overdue.discard(send)
            send.ended.set()

    def _abandoned(self, waiter_id: str | None, published: bool) -> None:
        """Finish an abandoned send: discard the reply to a call, and call the undo callback."""
        if waiter_id is not None and published:
            self._replies.forget(waiter_id)
        if self._undo is not None:
            self._undo()
