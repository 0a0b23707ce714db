# SPDX-License-Identifier: Apache-2.0
"""Exactly-once delivery in order, whatever is killed: one load, one oracle, two servers.

`tests/chaos` asserts it of tracker-worker under every fault; `tools/compare_delivery` compares it with a
stock oslo.messaging RPC server. The client, the stock server, the load and the oracle import nothing of
tracker_worker.
"""
