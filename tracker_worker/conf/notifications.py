# SPDX-License-Identifier: Apache-2.0
"""[notifications]: where notifications are published.

[oslo_messaging_notifications] driver turns them on or off.
"""

from oslo_config import cfg

GROUP = cfg.OptGroup("notifications", title="Notifications to the message bus")

OPTS = [
    cfg.StrOpt(
        "exchange",
        default="nova",
        regex=r"^[A-Za-z0-9._-]{1,127}\Z",
        help="""
Exchange on which notifications are published. The default is the exchange of Nova's notifications.

Change it when the consumers bind their queues to another exchange.
""",
    ),
    cfg.StrOpt(
        "topic",
        default="versioned_notifications",
        regex=r"^[A-Za-z0-9._-]{1,127}\Z",
        help="""
Topic of notifications. Their queues are ``<topic>.info`` and ``<topic>.error``.

Change it when Nova's [notifications] versioned_notifications_topics was changed.
""",
    ),
    cfg.IntOpt(
        "window",
        default=200,
        min=1,
        max=10000,
        help="""
Maximum number of notifications that are published before their rows are deleted from the outbox.

A crash repeats at most this many. Lower it where consumers cannot drop duplicates by ``message_id``.
""",
    ),
]
