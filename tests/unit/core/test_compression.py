# SPDX-License-Identifier: Apache-2.0
"""Bodies that kombu has compressed are read; a bomb costs what the largest message costs."""

import bz2
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import kombu.compression
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_worker.core.compression import compression_of, decompress
from tracker_worker.core.envelope import MAX_BODY_BYTES, encode, open_envelope
from tracker_worker.domain.compressions import ALIASES, Compression
from tracker_worker.domain.errors import BadMessage, ErrorCode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY = encode("build_failed", {"node": "n", "event_id": "e" * 64})
GIBIBYTE = 1 << 30


def refusal(body: bytes, compression: str) -> ErrorCode:
    with pytest.raises(BadMessage) as caught:
        open_envelope(decompress(body, compression))
    return caught.value.code


def test_a_body_without_the_header_is_left_alone() -> None:
    assert decompress(b"\x00", None) == decompress(b"\x00", "") == b"\x00"


def test_every_compression_of_kombu_has_its_names_here() -> None:
    assert set(kombu.compression.encoders()) == set(Compression)
    assert {name: Compression(kind) for name, kind in kombu.compression._aliases.items()} == ALIASES


@pytest.mark.parametrize("name", Compression)
@given(body=st.one_of(st.binary(), st.just(BODY), st.binary(min_size=1, max_size=64).map(lambda b: b * 5000)))
def test_what_kombu_compressed_comes_out_as_it_was(name: Compression, body: bytes) -> None:
    compressed, header = kombu.compression.compress(body, name)
    assert decompress(compressed, header) == decompress(compressed, name) == body


@pytest.mark.parametrize("alias", ALIASES)
def test_what_kombu_compressed_under_an_alias_comes_out_under_its_header_and_the_alias(alias: str) -> None:
    compressed, header = kombu.compression.compress(BODY, alias)
    assert decompress(compressed, header) == decompress(compressed, alias) == BODY


@pytest.mark.parametrize("name", Compression)
@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES])
def test_the_limit_of_a_message_is_the_one_of_a_plain_one(name: Compression, size: int) -> None:
    body = BODY + b" " * (size - len(BODY))
    compressed, _ = kombu.compression.compress(body, name)
    if size <= MAX_BODY_BYTES:
        assert open_envelope(decompress(compressed, name)).method == "build_failed"
    else:
        assert refusal(compressed, name) is ErrorCode.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("name", Compression)
def test_a_compressed_body_above_the_limit_is_not_looked_into(name: Compression) -> None:
    assert refusal(b"\xff" * (MAX_BODY_BYTES + 1), name) is ErrorCode.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("name", Compression)
def test_a_stream_that_is_cut_off_is_malformed(name: Compression) -> None:
    compressed, _ = kombu.compression.compress(BODY, name)
    for length in range(len(compressed)):
        assert refusal(compressed[:length], name) is ErrorCode.MALFORMED_COMPRESSION


@pytest.mark.parametrize("name", Compression)
def test_a_stream_with_something_behind_it_is_malformed(name: Compression) -> None:
    compressed, _ = kombu.compression.compress(BODY, name)
    assert refusal(compressed + b"x", name) is ErrorCode.MALFORMED_COMPRESSION
    assert refusal(compressed + compressed, name) is ErrorCode.MALFORMED_COMPRESSION


@pytest.mark.parametrize("name", Compression)
@given(junk=st.binary(max_size=200), at=st.integers(0, 200))
def test_any_bytes_are_a_body_or_a_refusal(name: Compression, junk: bytes, at: int) -> None:
    """Whatever a stream decodes to, nothing but BadMessage is raised, and the bound holds."""
    compressed, _ = kombu.compression.compress(BODY, name)
    for body in (junk, compressed[:at] + junk + compressed[at + len(junk) :]):
        try:
            assert len(decompress(body, name)) <= MAX_BODY_BYTES + 1
        except BadMessage as bad:
            assert bad.code is ErrorCode.MALFORMED_COMPRESSION


@pytest.mark.parametrize("name", ["gzip2", "application/x-snappy", "hunter2", "?"])
def test_another_compression_is_refused_without_its_name(name: str) -> None:
    with pytest.raises(BadMessage) as caught:
        decompress(BODY, name)
    assert caught.value.code is ErrorCode.UNSUPPORTED_COMPRESSION
    assert (
        name not in caught.value.message.replace("x-gzip", "") and "application/zstd" in caught.value.message
    )


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        (None, None),
        ({}, None),
        ("text", None),
        ({"compression": None}, None),
        ({"compression": "application/zstd"}, "application/zstd"),
        ({"compression": 7}, "?"),
        ({"compression": {"a": 1}}, "?"),
    ],
)
def test_a_header_may_be_anything(headers: dict[str, Any] | str | None, named: str | None) -> None:
    assert compression_of(headers) == named


def test_a_stream_that_wants_much_memory_for_its_dictionary_is_refused() -> None:
    header = b"\x5d" + GIBIBYTE.to_bytes(4, "little") + b"\xff" * 8
    assert refusal(header + bytes(64), Compression.LZMA) is ErrorCode.MALFORMED_COMPRESSION
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    frame = wide.compress(BODY) + wide.flush()
    assert refusal(frame, Compression.ZSTD) is ErrorCode.MALFORMED_COMPRESSION


def bomb_of(name: Compression) -> bytes:
    """A stream of at most a mebibyte that inflates to 64: 8 times the largest message."""
    zeros = bytes(1 << 22)
    streams: dict[Compression, tuple[Callable[[bytes], bytes], Callable[[], bytes]]] = {}
    deflate, squeeze, pack = zlib.compressobj(), bz2.BZ2Compressor(), lzma.LZMACompressor(preset=0)
    shrink, press = zstd.ZstdCompressor(), brotli.Compressor(quality=5)
    streams[Compression.ZLIB] = deflate.compress, deflate.flush
    streams[Compression.BZIP2] = squeeze.compress, squeeze.flush
    streams[Compression.LZMA] = pack.compress, pack.flush
    streams[Compression.ZSTD] = shrink.compress, shrink.flush
    streams[Compression.BROTLI] = press.process, press.finish
    feed, finish = streams[name]
    return b"".join([feed(zeros) for _ in range(16)]) + finish()


MEASURE = """
import sys
from tracker_worker.core.compression import decompress
def most_memory():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
body = sys.stdin.buffer.read()
before = most_memory()
print(len(decompress(body, sys.argv[1])))
print(most_memory() - before)
"""
"""Not ru_maxrss: it begins with what the process had that started this one, and so hides a growth."""


@pytest.mark.parametrize("name", Compression)
def test_a_bomb_costs_a_few_times_the_largest_message(name: Compression) -> None:
    """What is produced is counted, and by how much a process of its own grows."""
    bomb = bomb_of(name)
    assert len(bomb) <= 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name], input=bomb, capture_output=True, check=True, timeout=120
    )
    produced, grown = (int(line) for line in done.stdout.split())
    assert MAX_BODY_BYTES < produced <= MAX_BODY_BYTES + (1 << 18)
    assert grown < 6 * MAX_BODY_BYTES
