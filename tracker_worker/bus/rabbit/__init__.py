# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ through py-amqp: connections, queues, the consumer, replies, the publisher with confirms."""
