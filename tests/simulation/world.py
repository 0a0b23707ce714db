# SPDX-License-Identifier: Apache-2.0
"""The world: two workers, a broker, a database and clients, all driven by one random source."""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.simulation import faults
from tests.simulation.bus import PREFETCH, Broker, Connection, Message
from tests.simulation.checker import MOST_KILLS, Checker
from tests.simulation.clients import KILLS, NEAR, NODES, RAISES, READ, Clients
from tests.simulation.database import hooked_engine
from tests.simulation.faults import Crash, Rates, Trouble, Violation
from tests.simulation.standby import Standby
from tests.simulation.workers import RECEIPT_DAYS, Process
from tracker_worker.bus.publisher import NotificationRefused
from tracker_worker.core import batch
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Decision

START = datetime(2026, 11, 22, 12)
EPOCH_JULIAN = 2440587.5
EPOCH = datetime(1970, 1, 1)
MOST_OPERATIONS = 1000
"""Operations of the database in one step: more means an endless loop."""
RARE_POINTS = (faults.BEFORE_PUBLISH, faults.AFTER_PUBLISH, faults.AFTER_LOAD, faults.DURING_AUDIT)
RARELY_PASSED = 5
"""Factor of the crash rate at points that a worker passes rarely."""
MOST_REDELIVERED = NEAR + 3 * PREFETCH
"""Maximum number of events of a node that are settled between an event and its repetition."""
REFUSED = 7
"""In seeds with refusals, the bus never takes one of so many notifications."""
MOST_ROUNDS = 60
"""Rounds without faults, of one second each, after which all must be settled and published. They count from
the last crash, because an event that kills may still do so and the crashed relay's lease must then expire."""


class Host:
    """Where a worker runs. It crashes and is restarted on the same engine."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.name = name
        self.engine = hooked_engine(world.url, self, world.julian_day)
        self.process: Process | None = None
        self.writing = False
        """Whether its transaction holds the write lock of the database."""
        self.draining = False
        self.given_up = False
        """Whether the broker has dropped it in the middle of a step."""
        self.commit_lost = False
        self.lost = 0
        """Connections lost in this step. An event is parked when they are many in a row."""

    # What a process asks of its host.

    @property
    def newest_receipts(self) -> int:
        return self._world.newest_receipts

    def clock(self) -> datetime:
        return self._world.tick()

    def monotonic(self) -> float:
        return self._world.seconds

    def new_id(self) -> str:
        return self._world.new_id()

    def point(self, name: str) -> None:
        self._world.at(self, name)

    def replied(self, reply: Any) -> None:
        self._world.replied(reply)

    def publish(self, rows: Sequence[Any]) -> int:
        return self._world.publish(self, rows)

    def drained(self, left: int) -> None:
        if left:
            raise Violation(f"{self.name} is stopped and leaves {left} messages that it had taken")

    # The database's operations.

    def server(self) -> int:
        return self._world.server

    def connecting(self) -> None:
        self._world.operation(self, writes=False)

    def executing(self, writes: bool, text: str, server: int) -> None:
        if server != self._world.server and not (self._world.pooler and _is_relays(text)):
            self.lost += 1
            raise faults.lost()
        self._world.operation(self, writes)
        self.writing = self.writing or writes

    def executed(self, writes: bool, text: str) -> None:
        if not writes and " claims" in text:
            self.point(faults.AFTER_LOAD)

    def committing(self) -> None:
        if not self.writing:
            return
        self._world.operation(self, writes=True)
        self.point(faults.BEFORE_COMMIT)
        self.commit_lost = self._world.loses_commit()

    def committed(self) -> None:
        if not self.writing:
            return
        self.writing = False
        self._world.commits += 1
        if self.commit_lost:
            self.commit_lost = False
            self.lost += 1
            raise faults.lost() if self.lost == 1 else faults.failed()
        self.point(faults.AFTER_COMMIT)

    def rolled_back(self) -> None:
        self.writing = False


class World:
    """Everything that a seed decides. `run` raises Violation where a promise is broken."""

    def __init__(self, seed: int, directory: Path, empty_database: Path) -> None:
        self.chance = Random(seed)
        file = shutil.copyfile(empty_database, directory / f"{seed}.sqlite")
        self._file = file
        self.url = f"sqlite:///{file}"
        self._drawn = Rates.drawn(self.chance)
        self.rates = self._drawn
        self.now = START
        self.seconds = 0.0
        self.newest_receipts = self.chance.choice((0, MOST_REDELIVERED))
        """Receipts of a node that the purge always keeps. With 0, the database's clock is never set."""
        self._database_ahead = timedelta()
        self._dated_until = 0.0
        """The latest time that the database's clock has shown, in seconds."""
        self._ids = 0
        self._depth = 0
        self._operations = 0
        self._trouble: Trouble | None = None
        self._acting: list[Host] = []
        self.commits = 0
        self.kills: Counter[str] = Counter()
        """How many workers each event that kills has killed."""
        self.crashes: Counter[bytes] = Counter()
        """How often a worker crashed while it had a message, by body."""
        self.points: Counter[str] = Counter()
        """How often a worker crashed at each point."""
        self.crashed_late = False
        """Whether a worker crashed after another had replaced it: its rows in `attempts` then stay."""
        self.happened: Counter[str] = Counter()
        self.log: list[str] = []
        self.steps = 0
        self.broker = Broker(self._forgotten)
        self.clients = Clients(self.chance, self._drawn, self._published)
        self.checker = Checker(file, self.clients.histories)
        self.hosts = [Host(self, name) for name in ("one", "other")]
        self._refuses_some = seed % 3 == 0
        self.server = 1
        """The number of the database's server: a failover counts on."""
        self.pooler = False
        """Whether a pooler has moved the relays' connections to the current server without an error."""
        self._standby: Standby | None = None
        self._old: set[Message] = set()
        """Messages that wait since before the last down time. While there are any, nothing is purged."""

    # Time and ids.

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        self.seconds += 0.001
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds

    def julian_day(self) -> float:
        """The database's clock, which does not follow when the hosts' clocks are set."""
        seconds = self._database_seconds() + (START - EPOCH).total_seconds()
        return EPOCH_JULIAN + seconds / 86400.0

    def _database_seconds(self) -> float:
        return self.seconds + self._database_ahead.total_seconds()

    def new_id(self) -> str:
        self._ids += 1
        return str(uuid.UUID(int=self._ids << 64))

    # A run.

    def run(self, steps: int) -> None:
        """Run so many steps with faults, then rounds without faults until nothing waits."""
        try:
            for host in self.hosts:
                self._start(host)
            self.steps = steps
            for number in range(steps):
                self._say(f"step {number}")
                self._act(*self._choose())
                self.checker.check()
            self._run_without_faults()
            self.checker.check_end(self.crashed_late)
        finally:
            self._end()

    def _run_without_faults(self) -> None:
        """Stop the faults and run the workers in turn until nothing waits."""
        self.rates, self._trouble = faults.NONE, None
        self.checker.rebuild()
        last, number = MOST_ROUNDS, 0
        while number < last:
            number += 1
            self._say(f"round {number}")
            kills = self.kills.total()
            for host in self.hosts:
                if host.process is None:
                    self._start(host)
                for act in (self._reconnect, self._turn, self._lane, self._turn, self._relay, self._relay):
                    if host.process is not None:  # An event that kills may still be among the messages.
                        self._act(host, act)
            self.pass_time(1)
            self.checker.check()
            if not self.broker.waiting and self._all_published():
                return
            if self.kills.total() > kills:
                last = number + MOST_ROUNDS
        raise Violation(
            f"{self.broker.waiting} messages are not settled, or not published, after {last} rounds"
        )

    def _all_published(self) -> bool:
        return not self.checker._rows("SELECT 1 FROM outbox LIMIT 1")

    def _end(self) -> None:
        for host in self.hosts:
            process, host.process = host.process, None
            if process is not None:
                process.discard()
            host.engine.dispose()
        self.checker.close()
        if self._standby is not None:
            self._standby.close()
        for file in self._file.parent.glob(f"{self._file.name}*"):
            file.unlink()

    # Choosing and running a step.

    def _choose(self) -> tuple[Host, Callable[[Host], None]]:
        host = self.chance.choice(self.hosts)
        if host.process is None:
            return host, self._start
        if self.chance.random() < self.rates.drop:
            return host, self.chance.choice(
                (
                    self._drop,
                    self._flap,
                    self._flap,
                    self._drop_all,
                    self._kill,
                    self._kill,
                    self._stop,
                    self._set_clock,
                    self._set_database_clock,
                    self._set_database_clock,
                    self._pause,
                    self._break_sum,
                )  # fmt: skip
            )
        if self.chance.random() < 0.004:
            return host, self._down_time
        if self._nodes_of_killers() and self.chance.random() < 0.03:
            return host, self._break_sum
        if self.checker.broken and self.chance.random() < 0.1:
            return host, self._rebuild
        if self.chance.random() < self.rates.failover:
            return host, self._copy if self._standby is None else self._fail_over
        acts: list[tuple[int, Callable[[Host], None]]] = [
            (30, self._cast), (25, self._turn), (25, self._lane), (12, self._relay), (6, self._reconnect),
            (1, self._purge), (8, self._ask),
        ]  # fmt: skip
        return host, self.chance.choices([act for _, act in acts], [weight for weight, _ in acts])[0]

    def _act(self, host: Host, act: Callable[[Host], None]) -> None:
        """Run an action of a host; if the worker crashes, release what it held."""
        self._say(f"{host.name}: {act.__name__.strip('_')}")
        if not self._depth:
            self._operations = 0
            for each in self.hosts:
                each.lost = 0
                each.given_up = False
        self._depth += 1
        self._acting.append(host)
        try:
            act(host)
        except Crash:
            if host in self._acting[:-1]:
                raise  # Another of its threads was here: that one ends too.
            self._discard(host)
        finally:
            self._acting.pop()
            self._depth -= 1

    def _start(self, host: Host) -> None:
        self._ids += 1
        host.draining = False
        host.process = Process(host, host.engine, self._ids)
        self._reconnect(host)

    def _reconnect(self, host: Host) -> None:
        process = self._process(host)
        if process.subscription is None and not process.stopping.is_set():
            # In the middle of a step it still has its messages in flight.
            host.given_up |= self._acting.count(host) > 1
            process.connect(Connection(self.broker))

    def _cast(self, _host: Host) -> None:
        for _ in range(self.chance.randint(1, 4)):
            self.clients.cast()

    def _ask(self, _host: Host) -> None:
        self.clients.ask(self.checker.sequence)

    def _turn(self, host: Host) -> None:
        process = self._process(host)
        if process.connection is not None and process.connection.open:
            for channel in process.connection.channels:
                channel.hand_out(self.chance.randint(0, 8) if self.rates is not faults.NONE else 8)
        process.turn()

    def _lane(self, host: Host) -> None:
        self._process(host).lane.step()

    def _relay(self, host: Host) -> None:
        self._process(host).relay_step()

    def _purge(self, host: Host) -> None:
        if not self._old:
            self._process(host).purge_step()

    def _drop(self, host: Host) -> None:
        """The broker drops a worker, which does not know yet that it lost its partitions."""
        connection = self._process(host).connection
        if connection is None:
            return
        if self._acting.count(host) > 1:
            # Its successor takes the attempts that it recorded for crashes.
            if not self._may_crash(host):
                return
            self._count_crash(host)
            host.given_up = True
        self.happened["drop"] += 1
        connection.drop()

    def _flap(self, host: Host) -> None:
        """The connection is lost and restored: the other worker takes over, and this one keeps its cache."""
        self._drop(host)
        self._turn(host)
        self._reconnect(host)
        self._turn(host)

    def _drop_all(self, _host: Host) -> None:
        self.happened["redelivery of everything"] += 1
        for host in self.hosts:
            if host.process is not None:
                self._drop(host)

    def _kill(self, host: Host) -> None:
        if self._may_crash(host):
            self.happened["kill"] += 1
            self._crash(host, "killed")

    def _stop(self, host: Host) -> None:
        """TERM: the worker settles and publishes all that it has taken; nothing of it is redelivered."""
        self.happened["stop"] += 1
        host.draining = True
        self._process(host).drain()
        host.process = None

    def _set_clock(self, host: Host) -> None:
        """Set the hosts' clocks by an hour; or by more than receipts are kept for some events, then purge and
        repeat casts.
        """
        self.happened["clock set"] += 1
        long = 24 * (RECEIPT_DAYS + 1)
        hours = self.chance.choice((-1, 1, long, -long, -long, -long))
        self.now += timedelta(hours=hours)
        if abs(hours) > 1:
            for act in (self._cast, self._turn, self._lane):
                act(host)
            self.now -= timedelta(hours=hours)
            self._purge_and_repeat(host)

    def _set_database_clock(self, host: Host) -> None:
        """Set the database's clock between two events, then purge and repeat casts.

        The purge can then tell by sequences alone which receipts are old. Attempts have none, so the clock is
        set only while there are no attempts.
        """
        if not self.newest_receipts or self.checker.attempts_are_left():
            return
        self.happened["database clock set"] += 1
        self._dated_until = max(self._dated_until, self._database_seconds())
        self._database_ahead += timedelta(days=self.chance.choice((-1, 1, 1)) * (RECEIPT_DAYS + 1))
        self._purge_and_repeat(host)

    def _purge_and_repeat(self, host: Host) -> None:
        for act in (self._cast, self._turn, self._lane, self._purge):
            act(host)
        for _ in range(6):
            self.clients.repeat()

    def _break_sum(self, _host: Host) -> None:
        """Change a node's usage by SQL: its events must wait until it is rebuilt.

        Nodes with an event that has crashed a worker come first.
        """
        if not any(host.writing for host in self.hosts):
            node = self.chance.choice(self._nodes_of_killers() or NODES)
            self.happened["sum broken"] += self.checker.break_sum(node)

    def _nodes_of_killers(self) -> list[str]:
        """The nodes with a waiting event that has crashed a worker."""
        waiting = [message for queue in self.broker.queues.values() for message in queue.ready]
        return sorted({message.node for message in waiting if self.kills[message.event_id]})

    def _rebuild(self, _host: Host) -> None:
        if not any(host.writing for host in self.hosts):
            self.checker.rebuild()

    def _pause(self, host: Host) -> None:
        self.happened["time passes"] += 1
        self.pass_time(self.chance.choice((3, 11, 30)))

    def _down_time(self, _host: Host) -> None:
        """No worker runs for longer than receipts are kept; then one starts, and purges first.

        Not while receipts are dated ahead and attempts are left: these would look old by comparison.
        """
        if self._old or not all(self._may_crash(host) for host in self.hosts):
            return
        if self._dated_until > self._database_seconds() and self.checker.attempts_are_left():
            return
        self.happened["down time"] += 1
        for host in self.hosts:
            if host.process is not None:
                self._count_crash(host)
                self._discard(host)
        self.pass_time((RECEIPT_DAYS + 1) * 86400)
        self.clients.forget_recent()
        self._old = {message for queue in self.broker.queues.values() for message in queue.ready}
        self._start(self.hosts[0])
        self._process(self.hosts[0]).purge_step()

    def _copy(self, _host: Host) -> None:
        """Copy the database; from now on the standby lags behind."""
        self._standby = Standby(self._file, self.checker)

    def _fail_over(self, _host: Host) -> None:
        """The standby becomes the database: commits are lost, the memory of workers and broker is not.

        Events that were acknowledged are lost with the commits. No message may wait at that time: its result
        would differ from the history, which was computed on the lost state.
        """
        standby = self._standby
        if standby is None or not self._settle_all():
            return
        self.happened["failover"] += 1
        self.pooler = self.chance.random() < 0.5
        self.happened["failover behind a pooler"] += self.pooler
        self._standby = None
        standby.promote()
        standby.close()
        self.server += 1
        self.clients.roll_back(standby.point.sequences, self.checker.has_seen)
        self.checker.roll_back(standby.point)
        self.crashed_late |= self.checker.attempts_are_left()
        for host in self.hosts * 2:
            # Each host in turn applies new events, which reuse the lost sequences.
            for act in (self._cast, self._flap, self._turn, self._lane, self._turn):
                if host.process is not None:
                    self._act(host, act)

    def _settle_all(self) -> bool:
        """Run without faults until no message waits, publish a window; return whether none waits."""
        self.checker.rebuild()
        rates, self.rates = self.rates, faults.NONE
        trouble, self._trouble = self._trouble, None
        for _ in range(MOST_ROUNDS):
            if not self.broker.waiting:
                break
            for host in self.hosts:
                if host.process is None:
                    self._start(host)
                for act in (self._reconnect, self._turn, self._lane, self._turn):
                    if host.process is not None:
                        self._act(host, act)
            self.pass_time(0.1)
        for host in self.hosts:
            if host.process is not None:
                self._act(host, self._relay)
        self.rates, self._trouble = rates, trouble
        self.checker.check()
        return not self.broker.waiting

    # Faults during a step.

    def at(self, host: Host, point: str) -> None:
        """A named point: the worker may crash here, or the other one run."""
        if self.rates is faults.NONE:
            return
        often = RARELY_PASSED if point in RARE_POINTS else 1
        if self.chance.random() < self.rates.crash * often and self._may_crash(host):
            self._crash(host, point)
        if host.draining and self.chance.random() < self.rates.crash and self._may_crash(host):
            self._crash(host, faults.DURING_DRAIN)
        self._interleave(host)

    def operation(self, host: Host, writes: bool) -> None:
        """An operation of the database: it may fail."""
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise Violation(f"{host.name} does not end: {MOST_OPERATIONS} operations in one step")
        trouble = self._trouble
        if trouble is not None:
            if writes or not trouble.writes_only:
                trouble.left -= 1
                if not trouble.left:
                    self._trouble = None
                self._say(f"{host.name}: database fails")
                raise trouble.error()
            return
        if self.chance.random() < self.rates.error / 4:
            if self.chance.random() < 0.3 and host.lost < 1:
                host.lost += 1
                raise faults.lost()
            self._trouble = Trouble.drawn(self.chance)
            self.happened[self._trouble.error.__name__] += 1
        if not host.writing:
            self._interleave(host)

    def loses_commit(self) -> bool:
        """Whether a commit is reported as failed although it is made."""
        lost = self.chance.random() < self.rates.error
        self.happened["commit reported as failed"] += lost
        return lost

    def _interleave(self, host: Host) -> None:
        """Run another thread or the other worker while this one is at a point."""
        if self._depth > 1 or self.chance.random() >= self.rates.interleave:
            return
        other = next(each for each in self.hosts if each is not host)
        mine: list[Callable[[Host], None]] = [self._turn, self._drop, self._flap]
        its: list[Callable[[Host], None]] = [self._turn, self._reconnect]
        if not host.writing:
            its += [self._lane, self._lane, self._relay]
        if self.chance.random() < 0.4:
            self._act(host, self.chance.choice(mine))
        elif other.process is not None:
            for _ in range(self.chance.randint(1, 4)):
                if other.process is not None:
                    self._act(other, self.chance.choice(its))

    def publish(self, host: Host, rows: Sequence[Any]) -> int:
        """The bus takes the first rows of a window and confirms the first of these."""
        self.at(host, faults.BEFORE_PUBLISH)
        refused = next((number for number, row in enumerate(rows) if self._refuses(row)), None)
        if refused is not None:
            self.happened["notification refused"] += 1
            self.checker.published(rows[: self.chance.randint(0, refused)])
            raise NotificationRefused("too long")
        sent = confirmed = len(rows)
        if self.chance.random() < self.rates.error:
            self.happened["publisher lost"] += 1
            sent = self.chance.randint(0, len(rows))
            confirmed = self.chance.randint(0, sent)
        if self.rates is not faults.NONE and self.chance.random() < self.rates.interleave and self._depth < 2:
            self._lose_lease(host, rows[:sent])
        self.checker.published(rows[:sent])
        self.at(host, faults.AFTER_PUBLISH)
        return confirmed

    def _refuses(self, row: Any) -> bool:
        """Whether the bus refuses a notification for ever. The error that replaces it is taken.

        Only one that the checker has seen is refused, so that its content was checked.
        """
        if not self._refuses_some or row.event_type == "compute_node.event.error":
            return False
        return uuid.UUID(row.message_id).int // 2**64 % REFUSED == 0 and self.checker.knows(row.message_id)

    def _lose_lease(self, host: Host, rows: Sequence[Any]) -> None:
        """The relay pauses after some of its rows: another one takes the lease and publishes."""
        self.happened["lease lost"] += 1
        self.checker.published(rows[: self.chance.randint(0, len(rows))])
        self.pass_time(11)
        other = next(each for each in self.hosts if each is not host)
        for _ in range(self.chance.randint(1, 3)):
            if other.process is not None:
                self._act(other, self._relay)

    def deciding(self, event_id: str | None, audit: bool) -> None:
        """An event is being decided: crash or raise if it is one that does."""
        if audit:
            self.at(self._acting[-1], faults.DURING_AUDIT)
        if event_id is None:
            return
        if event_id.startswith(KILLS):
            connection = self._process(self._acting[-1]).connection
            # A crash counts for the event only on a connection that the broker still has.
            self.kills[event_id] += connection is not None and connection.open
            self._count_crash(self._acting[-1])
            if self.kills[event_id] > MOST_KILLS:
                raise Violation(f"{event_id} has killed {self.kills[event_id]} workers")
            raise Crash
        if event_id.startswith(RAISES):
            raise ValueError("as this event always does")

    def _may_crash(self, host: Host) -> bool:
        """Whether a random crash is allowed: not one that would make an innocent event a poison message."""
        held = self._held(host)
        return not any(KILLS.encode() in body or self.crashes[body] > 1 for body in held)

    def _held(self, host: Host) -> set[bytes]:
        """The bodies that a worker holds: none here is so large that it is a digest."""
        held = host.process.held if host.process else ()
        return {body for each in held if isinstance(body := each.content, bytes)}

    def _crash(self, host: Host, point: str) -> None:
        self.points[point] += 1
        self._count_crash(host)
        self._say(f"{host.name}: crashes {point}")
        raise Crash

    def _count_crash(self, host: Host) -> None:
        self.crashes.update(self._held(host))

    def _discard(self, host: Host) -> None:
        process, host.process = host.process, None
        rates, self.rates = self.rates, faults.NONE
        trouble, self._trouble = self._trouble, None
        if process is not None:
            connected = process.connection is not None and process.connection.open
            self.crashed_late |= host.given_up or (bool(process.held) and not connected)
            process.discard()
        self.rates, self._trouble = rates, trouble
        host.writing = False

    # Calls from broker and clients.

    def _published(self, message: Message) -> None:
        self.broker.publish(message)

    def _forgotten(self, message: Message) -> None:
        self._old.discard(message)
        if not message.event_id.startswith(READ):
            self.checker.settled(message.event_id)

    def replied(self, reply: Any) -> None:
        inner = json.loads(json.loads(reply.body)["oslo.message"])
        read = self.clients.reads.get(inner["_msg_id"])
        if "NodeBroken" in str(inner["failure"]) and self.happened["sum broken"]:
            return
        if read is not None and inner["failure"] is not None:
            raise Violation(f"{inner['_msg_id']} of {read[0]} failed: {inner['failure']}")
        if read is not None:
            self.checker.shown(inner["result"], read[1])

    def _process(self, host: Host) -> Process:
        if host.process is None:
            raise Violation(f"the simulation is wrong: {host.name} does not run")
        return host.process

    def _say(self, what: str) -> None:
        self.log.append(f"{'  ' * self._depth}{what}")


def _is_relays(text: str) -> bool:
    """Whether a statement is one of the relay's, or begins a transaction that may be."""
    return text == "BEGIN" or " leases" in text or (" outbox" in text and "INSERT" not in text)


@contextmanager
def _rules_watched(world: World) -> Iterator[None]:
    """Call the world for each event that is decided: some crash the worker."""

    def watched(node: Any, command: Any, *rest: Any) -> Decision:
        world.deciding(command.event_id, getattr(command, "instances", None) is not None)
        return decide(node, command, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "decide", watched)
        yield


def simulate(seed: int, steps: int, directory: Path, empty_database: Path) -> World:
    """Run a seed. A Violation has the end of the log and the command that runs the seed again."""
    world = World(seed, directory, empty_database)
    with _rules_watched(world):
        try:
            world.run(steps)
        except (Violation, Exception) as error:  # An Exception has ended a thread of the worker.
            again = f"python -m tests.simulation {seed} --steps {steps}"
            raise Violation("\n".join([*world.log[-40:], f"SEED={seed}: {error!r}", again])) from error
    return world
