# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in: nothing raises, each delivery is settled once, what is bad is parked with its code.

20,000 generated inputs in batches through a real lane and its database.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.functional.lanes import PARTITIONS, LaneBench
from tests.unit.bus.examples import EXAMPLES, positions, with_value
from tracker_worker.bus.envelope import encode, open_envelope, read_command
from tracker_worker.cmd.embedded import database_file
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import DEAD_LETTERS, NODES
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.ledger import assert_sum

INPUTS_AT_ONCE = 50
EXAMPLES_RUN = 400
CODES = {code.value for code in ErrorCode}

PLACES = [(method, path) for method in EXAMPLES for path in positions(EXAMPLES[method])]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "\ud800", "\x00", "a\nb", "deleted", "resized"]),
    st.sampled_from([256, 70_000]).map("x".__mul__),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def misfits(draw: st.DrawFn) -> bytes:
    """A valid command with any value anywhere in its arguments."""
    method, path = draw(st.sampled_from(PLACES))
    return encode(method, with_value(EXAMPLES[method], path, draw(VALUES)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes replaced, cut off or put in."""
    body = encode(method := draw(st.sampled_from(sorted(EXAMPLES))), EXAMPLES[method])
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + draw(st.integers(0, 40)) :]


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """An envelope of the right form around anything."""
    inner = {
        "method": draw(st.sampled_from([*EXAMPLES, "no_such"]) | VALUES),
        "args": draw(VALUES),
        "version": draw(st.sampled_from(["1.0", "1.7", "2.0", "", "1.0.0"]) | VALUES),
    }
    version = draw(st.sampled_from(["2.0", "2.9", "1.0"]))
    return json.dumps({"oslo.version": version, "oslo.message": json.dumps(inner)}).encode()


DEEP = st.sampled_from([2_000, 100_000]).map(
    lambda depth: encode("get_node", {}).replace(b"{}", b"[" * depth)
)
INPUTS = st.one_of(misfits(), misfits(), damaged(), envelopes(), st.binary(max_size=64), DEEP)


@pytest.fixture(scope="module")
def bench(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaneBench]:
    file = shutil.copyfile(empty_database, database_file(tmp_path_factory.mktemp("fuzz")))
    engine = create_engine(f"sqlite:///{file}")
    logging.disable(logging.CRITICAL)  # A line for each of thousands of dead letters.
    yield (bench := LaneBench(engine))
    bench.close()
    engine.dispose()
    logging.disable(logging.NOTSET)


def is_valid(body: bytes) -> bool:
    """The decoder's own word on a body."""
    try:
        read_command(open_envelope(body))
    except BadMessage as bad:
        assert bad.code in CODES
        assert bad.path.startswith("$")
        return False
    return True


def parked(bench: LaneBench) -> int:
    """How many dead letters there are."""
    with bench.engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(DEAD_LETTERS)) or 0


@pytest.mark.timeout(300)
@settings(
    max_examples=EXAMPLES_RUN,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(bodies=st.lists(INPUTS, min_size=INPUTS_AT_ONCE, max_size=INPUTS_AT_ONCE))
def test_anything_is_settled_once_and_what_is_bad_is_parked(bench: LaneBench, bodies: list[bytes]) -> None:
    before = parked(bench)
    deliveries: list[Any] = [
        bench.deliver_body(body, partition=number % PARTITIONS) for number, body in enumerate(bodies)
    ]
    bench.run()
    for delivery in deliveries:
        assert isinstance(delivery.answer, dict | Exception)
    # One that came before is a duplicate of a dead letter, one on a wrong partition is parked though valid.
    assert parked(bench) - before <= len(bodies)
    fresh = {body for body in bodies if not is_valid(body)}
    assert fresh or parked(bench) >= before


def test_afterwards_every_letter_has_a_code_and_a_path_and_every_sum_holds(bench: LaneBench) -> None:
    letters = bench.rows(DEAD_LETTERS)
    assert {letter["code"] for letter in letters} <= CODES - {ErrorCode.INTERNAL_ERROR.value}
    assert all(letter["path"].startswith("$") for letter in letters)
    assert all(len(letter["body"].encode()) <= 64 * 1024 for letter in letters)
    names = [row["name"] for row in bench.rows(NODES)]
    for node in bench.unit_of_work.load(names).values():
        assert_sum(node)
