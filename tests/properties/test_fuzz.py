# SPDX-License-Identifier: Apache-2.0
"""For any input: nothing raises, each delivery is settled once, an invalid one is parked with its code.

20,000 generated inputs through real lanes and their databases. Hypothesis chooses values and bytes, and a
seeded shuffle puts them into many places, which is faster than to draw each input.
"""

import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import kombu.compression
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.builders import NODE, a_flavor, a_migration, a_report, an_instance, args_of, command, method_of
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench, Recorded
from tests.json_paths import positions, with_value
from tests.ledger_model import total
from tests.properties.under_test import amounts, held
from tests.samples import EXAMPLES
from tracker_worker import exceptions
from tracker_worker.cmd.database import database_file
from tracker_worker.core.compression import decompress
from tracker_worker.core.envelope import encode, open_envelope, read_command
from tracker_worker.core.replies import UnknownMethod, UnknownVersion
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import ATTEMPTS, DEAD_LETTERS, NODES, RECEIPTS
from tracker_worker.domain.compressions import Compression
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.partitions import partition_of

BATCH = 250
BATCHES = 80

OWN_FAULT = {ErrorCode.INTERNAL_ERROR, ErrorCode.WORKER_DIED, ErrorCode.DATABASE_REJECTS}
CODES = {code.value for code in ErrorCode}
REFUSALS = (exceptions.InvalidCommand, UnknownMethod, UnknownVersion)

PLACES = [(method, path) for method in EXAMPLES for path in positions(EXAMPLES[method])]
LONG = "x" * 70_000
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([-1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", "\ud800", "\x00", "a\nb", "deleted", "resized", NODE, LONG]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
VALID = [
    a_report(),
    a_report([an_instance("i-1")], [a_migration()]),
    command("instance_claim", instance=an_instance("i-1")),
    command("instance_claim", instance=an_instance("i-2", a_flavor(4, 4096, 1))),
    command("resize_claim", instance=an_instance("i-1"), flavor=a_flavor(4), migration=a_migration()),
    command("finish_move", instance=an_instance("i-1"), migration_uuid=a_migration().uuid),
    command("update_usage", instance=an_instance("i-2", vm_state="deleted")),
    command("build_failed"),
    command("get_node"),
]


class Batch:
    """Inputs made of values that hypothesis has chosen; its repr has these, because the bodies are long."""

    def __init__(self, seed: int, values: list[Any], pieces: list[bytes]) -> None:
        self._choices = (seed, values, pieces)
        self._random = Random(seed)
        self._values = values
        self._pieces = pieces

    def __repr__(self) -> str:
        return f"Batch{self._choices!r:.1000}"

    def deliveries(self) -> Iterator[tuple[bytes, str | None, int, bool]]:
        """Bodies with compression, partition, redelivered flag: mostly plain, new, and where they belong."""
        kinds = (self._misfit, self._damaged, self._envelope, self._raw, self._deep, self._valid)
        for make in self._random.choices(kinds, weights=(50, 15, 10, 4, 1, 20), k=BATCH):
            partition = partition_of(self._random.choice((NODE, NODE, NODE, OTHER_NODE)), PARTITIONS)
            yield *self._compressed(make()), partition, self._random.random() < 0.1

    def _compressed(self, body: bytes) -> tuple[bytes, str | None]:
        """One of ten is compressed, and some of these are damaged or named wrongly."""
        if self._random.random() < 0.9:
            return body, None
        compressed, name = kombu.compression.compress(body, self._random.choice(list(Compression)))
        if self._random.random() < 0.3:
            name = self._random.choice((*Compression, "x-other", "?"))
        if self._random.random() < 0.3:
            cut = self._random.randrange(len(compressed))
            compressed = compressed[:cut] + self._random.choice(self._pieces) + compressed[cut + 1 :]
        return compressed, name

    def _event_id(self) -> str:
        return f"event-{self._random.randrange(2000)}"

    def _misfit(self) -> bytes:
        """A valid command with any value anywhere in its arguments."""
        method, path = self._random.choice(PLACES)
        args = EXAMPLES[method] | {"event_id": self._event_id()}
        return encode(method, with_value(args, path, self._random.choice(self._values)))

    def _damaged(self) -> bytes:
        """A valid message with some bytes replaced, cut out or put in."""
        body = self._valid()
        start = self._random.randrange(len(body))
        gap = self._random.choice((0, 1, 40, len(body)))
        return body[:start] + self._random.choice(self._pieces) + body[start + gap :]

    def _envelope(self) -> bytes:
        """An envelope of the right form around anything."""
        some = self._random.choice
        inner = {
            "method": some((*EXAMPLES, some(self._values))),
            "args": some(({"node": NODE}, some(self._values))),
            "version": some(("1.0", "1.7", "2.0", some(self._values))),
            "_unique_id": some(("unique", self._event_id(), some(self._values))),
        }
        version = some(("2.0", "2.0", "2.9", "1.0"))
        return json.dumps({"oslo.version": version, "oslo.message": json.dumps(inner)}).encode()

    def _raw(self) -> bytes:
        return self._random.choice(self._pieces)

    def _deep(self) -> bytes:
        depth = self._random.choice((500, 2_000, 100_000))
        return encode("get_node", {}).replace(b"{}", b"[" * depth)

    def _valid(self) -> bytes:
        one = self._random.choice(VALID)
        return encode(method_of(one), args_of(one) | {"event_id": self._event_id()})


batches = st.builds(
    Batch,
    st.integers(0, 2**32),
    st.lists(VALUES, min_size=6, max_size=12),
    st.lists(st.binary(min_size=1, max_size=16), min_size=4, max_size=8),
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """A line for each of thousands of dead letters would be most of the run time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def is_valid(body: bytes, compression: str | None) -> bool:
    """Whether the decoder takes a body."""
    try:
        read_command(open_envelope(decompress(body, compression)))
    except BadMessage as bad:
        assert bad.path.startswith("$")
        return False
    return True


@pytest.mark.timeout(300)
def test_anything_is_settled_once_and_what_is_bad_is_parked(
    empty_database: Path, examples: Callable[[int], int]
) -> None:
    @settings(
        max_examples=examples(BATCHES),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(batch=batches)
    def settled(batch: Batch) -> None:
        with tempfile.TemporaryDirectory(prefix="tracker-worker-fuzz-") as directory:
            settle(batch, shutil.copyfile(empty_database, database_file(Path(directory))))

    settled()


def settle(batch: Batch, database: Path) -> None:
    """Have a lane settle a batch in a database of its own, and look at all that it left."""
    engine = create_engine(f"sqlite:///{database}")
    bench = LaneBench(engine)
    deliveries = []
    for body, compression, partition, redelivered in batch.deliveries():
        deliveries.append(
            bench.deliver_body(body, compression=compression, partition=partition, redelivered=redelivered)
        )
    bench.run()
    answers_fit(deliveries)
    letters_are_complete(bench)
    ledger_is_right(bench)
    bench.close()
    engine.dispose()


def answers_fit(deliveries: list[Recorded]) -> None:
    """Each has exactly one answer; an invalid one is refused, and no valid one is called invalid."""
    for delivery in deliveries:
        answer = delivery.answer
        assert isinstance(answer, dict | Exception)
        assert isinstance(delivery.body, bytes)
        if is_valid(delivery.body, delivery.compression):
            assert not isinstance(answer, REFUSALS)
        else:
            assert isinstance(answer, (*REFUSALS, exceptions.EventIdReused))


def letters_are_complete(bench: LaneBench) -> None:
    """Each parked event has one dead letter with a stable code and a path, and none an internal error."""
    letters = bench.rows(DEAD_LETTERS)
    assert {letter["code"] for letter in letters} <= CODES - OWN_FAULT
    assert all(letter["path"].startswith("$") for letter in letters)
    assert all(len(letter["body"].encode()) <= 64 * 1024 for letter in letters)
    receipts = bench.rows(RECEIPTS)
    parked = sorted(row["event_id"] for row in receipts if row["outcome"] == "parked")
    assert sorted(letter["event_id"] for letter in letters) == parked
    assert bench.rows(ATTEMPTS) == []


def ledger_is_right(bench: LaneBench) -> None:
    """Usage is the sum of the claims, and the receipts of a node number its events without a gap."""
    names = [row["name"] for row in bench.rows(NODES)]
    numbers = Counter(row["node"] for row in bench.rows(RECEIPTS) if row["sequence"] is not None)
    for node in bench.unit_of_work.load(names).values():
        assert amounts(node.used) == total([amounts(node.reserve), held(node)])
        assert node.sequence == numbers[node.name]


def test_the_inputs_are_many_and_of_all_kinds() -> None:
    """The generated inputs reach the rules and all kinds of errors."""
    batch = Batch(1, [None, -1, {"x": [1.5]}, "y"], [b"\xff", b"}"])
    found: Counter[str] = Counter()
    for body, compression, *_ in batch.deliveries():
        try:
            found[type(read_command(open_envelope(decompress(body, compression)))).__name__] += 1
        except BadMessage as bad:
            found[bad.code.value] += 1
    assert BATCH * BATCHES >= 20_000
    assert sum(found[type(one).__name__] for one in VALID) >= BATCH // 10
    assert found.keys() >= {"malformed_json", "bad_envelope", "wrong_type", "unknown_argument"}
    assert found.keys() >= {"malformed_compression", "unsupported_compression"}
