# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ, spoken to directly: connections, queues, the consumer, replies, the confirmed publisher."""
