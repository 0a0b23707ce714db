# SPDX-License-Identifier: Apache-2.0
"""Compares tracker-worker with Nova's own tracker, by the CPU of the same claims and audits.

Two contestants, each a process of its own: `nova` is the ResourceTracker of Nova 34, one node of the trace;
`worker` is tracker-worker as shipped, all nodes. They take turns, round by round.

`python -m tests.benchmarks.nova_tracker --help` has the options; `make benchmark-nova-tracker` runs it.
"""
