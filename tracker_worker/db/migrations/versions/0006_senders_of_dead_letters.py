# SPDX-License-Identifier: Apache-2.0
"""Who has sent a dead letter: the request id, and the host that waited for a reply; letters by their node."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement by itself: a migration that died is begun again.
    again = op.get_bind().dialect.name == "mysql"
    for column in (sa.Column("request_id", sa.String(64)), sa.Column("reply_host", sa.String(255))):
        op.add_column("dead_letters", column, if_not_exists=again)
    op.create_index("ix_dead_letters_node", "dead_letters", ["node"], if_not_exists=again)
