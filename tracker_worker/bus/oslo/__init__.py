# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's transports other than RabbitMQ, mainly fake://."""
