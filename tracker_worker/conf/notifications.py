# SPDX-License-Identifier: Apache-2.0
"""[notifications]: where notifications go.

What sends them, or nothing, is [oslo_messaging_notifications] driver.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup("notifications", title="Notifications to the message bus")

OPTS = [
    cfg.StrOpt(
        "exchange",
        default="nova",
        regex=r"^[A-Za-z0-9._-]{1,127}\Z",
        help="""
Exchange that notifications are published on; the default is where consumers of Nova's notifications listen.

Change it when the consumers listen elsewhere.
""",
    ),
    cfg.StrOpt(
        "topic",
        default="versioned_notifications",
        regex=r"^[A-Za-z0-9._-]{1,127}\Z",
        help="""
Topic of notifications; the queues are topic.info and topic.error.

Change it when Nova's [notifications] versioned_notifications_topics was changed.
""",
    ),
    cfg.IntOpt(
        "window",
        default=200,
        min=1,
        max=10000,
        help="""
Notifications that are published before their rows are removed from the outbox.

A crash repeats at most this many of them. Lower it where consumers cannot drop repetitions by message_id.
""",
    ),
]
