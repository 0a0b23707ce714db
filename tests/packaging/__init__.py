# SPDX-License-Identifier: Apache-2.0
"""What pip makes of the wheel: environments without an extra and with one, and a claim between them.

`tools/test_packaging` runs it. Needs PyPI, RabbitMQ and PostgreSQL.
"""
