# SPDX-License-Identifier: Apache-2.0
"""Compressed bodies in a lane: applied like plain ones, parked with their code, bounded together."""

import json
from collections.abc import Callable
from typing import Any

import kombu.compression
import pytest

from tests.builders import NODE, an_instance, args_of, command
from tests.functional.lanes import PARTITIONS, LaneBench, Recorded
from tracker_worker.core.compression import decompress
from tracker_worker.core.envelope import MAX_BODY_BYTES, encode
from tracker_worker.db.tables import DEAD_LETTERS, RECEIPTS
from tracker_worker.domain.compressions import Compression
from tracker_worker.domain.partitions import partition_of

SECRET = "hunter2"
CLAIM = encode("instance_claim", args_of(command("instance_claim", instance=an_instance(), event_id="claim")))


def deliver(bench: LaneBench, plain: bytes, name: str = Compression.ZLIB, **how: Any) -> Recorded:
    body, header = kombu.compression.compress(plain, name)
    return bench.deliver_body(body, compression=header, **how)


@pytest.mark.parametrize("name", Compression)
def test_a_compressed_command_is_applied_once(bench: LaneBench, name: Compression) -> None:
    bench.track()
    first = deliver(bench, CLAIM, name)
    again = deliver(bench, CLAIM, name, redelivered=True)
    bench.run()
    assert first.answer == again.answer and first.outcome == "granted"
    assert bench.used() == (2, 512 + 2048, 20 * 1024)


def test_plain_and_compressed_repeats_of_one_event_are_the_same(bench: LaneBench) -> None:
    bench.track()
    deliveries = [bench.deliver_body(CLAIM), deliver(bench, CLAIM), deliver(bench, CLAIM, Compression.ZSTD)]
    bench.run()
    assert [delivery.answer["sequence"] for delivery in deliveries] == [2, 2, 2]


@pytest.mark.parametrize("name", Compression)
def test_what_cannot_be_decompressed_is_parked_with_its_code_beside_good_neighbours(
    bench: LaneBench, name: Compression
) -> None:
    bench.track()
    plain = encode("build_failed", {"node": NODE, "event_id": "bad"}, request_id=SECRET)
    body, header = kombu.compression.compress(plain, name)
    large = kombu.compression.compress(plain + b" " * MAX_BODY_BYTES, name)[0]
    for each, kind in (
        (body[:-3], header),
        (body, "application/x-snappy"),
        (b"\xff" + body, None),
        (large, header),
    ):
        bench.deliver_body(each, compression=kind)
        deliver(bench, encode("build_failed", {"node": NODE, "event_id": f"beside {kind} {len(each)}"}))
    bench.run()
    codes = [code for _, code in bench.parked()]
    assert sorted(codes) == [
        "malformed_compression",
        "malformed_json",
        "message_too_large",
        "unsupported_compression",
    ]
    assert [row["outcome"] for row in bench.rows(RECEIPTS)].count("applied") == 5
    for letter in bench.rows(DEAD_LETTERS):
        assert json.loads(letter["body"]).keys() == {"type", "length", "sha256"}
        assert SECRET not in str(letter)


def test_a_letter_of_a_compressed_command_keeps_its_fields_to_be_replayed(bench: LaneBench) -> None:
    deliver(bench, CLAIM, partition=(partition_of(NODE, PARTITIONS) + 1) % PARTITIONS)
    bench.run()
    (letter,) = bench.rows(DEAD_LETTERS)
    assert letter["code"] == "wrong_partition"
    assert json.loads(letter["body"])["args"]["instance"]["uuid"] == an_instance().uuid


def test_what_is_decoded_at_once_is_bounded_by_decompressed_bytes(a_bench: Callable[..., LaneBench]) -> None:
    """Sixteen bodies of 300 kB that come as a few hundred bytes each: a window has four of them."""
    bench = a_bench(batch_bytes=1_000_000)
    bench.track()
    before = bench.commits
    plain = [encode("build_failed", {"node": NODE, "event_id": f"e-{n}"}) for n in range(16)]
    deliveries = [deliver(bench, each.ljust(300_000)) for each in plain]
    assert bench.lane.step()
    assert [delivery.outcome for delivery in deliveries] == ["applied"] * 16
    assert bench.commits - before == 4
    bodies = [(d.body, d.compression) for d in deliveries if isinstance(d.body, bytes)]
    assert [len(decompress(body, name)) for body, name in bodies] == [300_000] * 16
