# SPDX-License-Identifier: Apache-2.0
"""The worker: partitions to lanes, lanes to batches, batches to commits, the outbox to the bus."""
