# SPDX-License-Identifier: Apache-2.0
"""Measures how the costs of tracker-worker grow with what it keeps, as ratios of interleaved runs.

`instances` and `nodes`: the CPU of an event on nodes that hold more instances, and in a worker that has more
nodes. `memory`: of a claim, and of a large worker, and how long its first event takes. `soak`: the bytes and
rows of a database while audits find nothing to change.

`python -m tests.benchmarks.growth --help` has the options; `make benchmark-growth` runs it.
"""
