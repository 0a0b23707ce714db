# SPDX-License-Identifier: Apache-2.0
"""Decompression of message bodies, bounded by the limit of a message. Pure.

A client with `[oslo_messaging_rabbit] kombu_compression` sends compressed bodies and names the compression
in the header `compression`. kombu's own decoders are not bounded: a few kilobytes can exhaust the memory.
"""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import brotli

from tracker_worker.core.envelope import MAX_BODY_BYTES
from tracker_worker.domain.compressions import ALIASES, Compression
from tracker_worker.domain.errors import BadMessage, ErrorCode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_BYTES = 64 * 1024
_LZMA_MEMORY_BYTES = 32 * 1024 * 1024
"""Enough for xz's presets up to 7; kombu uses preset 6. The header of a stream may demand 4 GiB."""
_ZSTD_WINDOW_LOG = MAX_BODY_BYTES.bit_length() - 1
"""A frame of at most MAX_BODY_BYTES needs no larger window."""


class _Decompressor(Protocol):
    """The interface of the standard library's decompressors, such as bz2.BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Brotli:
    """Brotli with that interface, called in chunks: it exceeds `output_buffer_limit` by a multiple."""

    unused_data = b""  # brotli raises an error for trailing bytes

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        finished: bool = self._stream.is_finished()
        return finished

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        inflated = bytearray()
        while len(inflated) < max_length:
            chunk = self._stream.process(data, output_buffer_limit=_CHUNK_BYTES)
            if not chunk:
                break
            inflated += chunk
            data = b""
        return bytes(inflated)


_DECOMPRESSORS: dict[Compression, Callable[[], _Decompressor]] = {
    Compression.ZLIB: zlib.decompressobj,
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.LZMA: lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES),
    Compression.ZSTD: lambda: zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    ),
    Compression.BROTLI: _Brotli,
}
_ERRORS: tuple[type[Exception], ...] = (zlib.error, OSError, lzma.LZMAError, zstd.ZstdError, brotli.error)


def decompress(body: bytes, compression: str | None) -> bytes:
    """Return the decompressed body; `compression` is the message's header of that name.

    A body above MAX_BODY_BYTES is truncated slightly above it, so that `open_envelope` refuses it. Raises
    BadMessage for an unknown compression, and for a stream that is corrupt, truncated or followed by bytes.
    """
    if not compression or len(body) > MAX_BODY_BYTES:
        return body
    decompressor = _DECOMPRESSORS[_known(compression)]()
    try:
        inflated = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except _ERRORS:
        raise _malformed() from None
    if len(inflated) <= MAX_BODY_BYTES and (decompressor.unused_data or not decompressor.eof):
        raise _malformed()
    return inflated


def compression_of(headers: Any) -> str | None:
    """Return the header `compression`, which may be any text; None if absent, "?" if it is not a text."""
    named = headers.get("compression") if isinstance(headers, dict) else None
    return named if isinstance(named, str | None) else "?"


def _known(compression: str) -> Compression:
    try:
        return ALIASES.get(compression) or Compression(compression)
    except ValueError:
        names = ", ".join(Compression)
        text = f"the header compression must be one of {names}"
        raise BadMessage(ErrorCode.UNSUPPORTED_COMPRESSION, "$", text) from None


def _malformed() -> BadMessage:
    return BadMessage(
        ErrorCode.MALFORMED_COMPRESSION, "$", "not what the header compression says, or cut off"
    )
