# SPDX-License-Identifier: Apache-2.0
"""What the sync with Placement costs, on a Placement, RabbitMQ and PostgreSQL of its own, with one worker.

Requests to Placement in each situation, beside Nova's; claims while Placement is up, down, hanging and
unavailable; and how long nodes take that changed during an outage. `make benchmark-placement` runs it.
"""
