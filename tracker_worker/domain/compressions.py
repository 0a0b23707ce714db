# SPDX-License-Identifier: Apache-2.0
"""The compressions of message bodies that clients may use and workers accept: all that kombu supports."""

from enum import StrEnum


class Compression(StrEnum):
    """A compression by the content type that kombu writes into the header `compression`."""

    ZLIB = "application/x-gzip"
    BZIP2 = "application/x-bz2"
    LZMA = "application/x-lzma"
    ZSTD = "application/zstd"
    BROTLI = "application/x-brotli"


ALIASES = {
    "gzip": Compression.ZLIB,
    "zlib": Compression.ZLIB,
    "bzip2": Compression.BZIP2,
    "bzip": Compression.BZIP2,
    "lzma": Compression.LZMA,
    "xz": Compression.LZMA,
    "zstd": Compression.ZSTD,
    "zstandard": Compression.ZSTD,
    "brotli": Compression.BROTLI,
}
"""kombu's aliases, for the option kombu_compression; kombu accepts them in the header, too."""
