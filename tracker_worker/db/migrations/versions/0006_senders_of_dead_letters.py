# SPDX-License-Identifier: Apache-2.0
"""The sender of a dead letter: its request id and the host of a call; an index of the letters by node."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    for column in (sa.Column("request_id", sa.String(64)), sa.Column("reply_host", sa.String(255))):
        op.add_column("dead_letters", column, if_not_exists=again)
    op.create_index("ix_dead_letters_node", "dead_letters", ["node"], if_not_exists=again)
