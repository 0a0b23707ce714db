# SPDX-License-Identifier: Apache-2.0
"""The rules: pure functions on immutable values, no I/O, no clocks, no randomness."""
