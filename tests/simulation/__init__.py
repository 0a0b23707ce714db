# SPDX-License-Identifier: Apache-2.0
"""The worker under every fault, in one thread, from one seed.

Real: dispatcher, lane, batch, relay, purge, the consumer's subscription, store, migrations, SQLite.
Simulated: the broker, the network, clocks, ids. A seed decides which of them does what next and what fails
where; after every step `checker` compares SQL, queues and notifications with each node's `history`: what the
ledger model makes of the casts.

`python -m tests.simulation SEED` runs one seed again and prints its steps.
"""
