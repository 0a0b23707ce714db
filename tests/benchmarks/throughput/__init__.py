# SPDX-License-Identifier: Apache-2.0
"""Compares tracker-worker with what one would write instead, and with the limit, on the same messages.

Four contestants, each a process of its own: `stock` is an RPC server of oslo.messaging, `naive` a consumer of
kombu's, `worker` tracker-worker as shipped, `limit` the least that has to be done, without rules. They take
turns, round by round, so that whatever else the machine does meets all of them.

`python -m tests.benchmarks.throughput --help` has the options; `make bench` runs it.
"""
