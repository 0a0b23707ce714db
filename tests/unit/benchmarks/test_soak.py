# SPDX-License-Identifier: Apache-2.0
from tests.benchmarks.growth.soak import Sample, Soak


def a_sample(receipts: int = 5, size: int = 8192) -> Sample:
    return Sample(1, {"receipts": receipts}, {"nodes": size, "claims": 8192}, 10, 10, 0, 0, size)


def test_soak_compares_the_rows_of_all_samples_and_the_bytes_of_the_last_two() -> None:
    flat = Soak("", 5, (a_sample(size=4096), a_sample(), a_sample()))
    assert (flat.rows_are_equal, flat.growth) == (True, 1.0)
    grown = Soak("", 5, (a_sample(), a_sample(), a_sample(receipts=6, size=24576)))
    assert (grown.rows_are_equal, grown.growth) == (False, 2.0)
