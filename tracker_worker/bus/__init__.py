# SPDX-License-Identifier: Apache-2.0
"""The bus: receives commands and publishes notifications, on RabbitMQ or another transport."""
