# SPDX-License-Identifier: Apache-2.0
"""How long the caller of a claim waits, on RabbitMQ and PostgreSQL: alone, and beside audits of other nodes.

Beside the claims, in turn with them, it measures a stock oslo.messaging call to an empty method followed by a
bare commit: a transaction with one INSERT on the same database. `make benchmark-latency` runs it.
"""
