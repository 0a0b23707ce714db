# SPDX-License-Identifier: Apache-2.0
"""A commit id of each node; the client processes that audit it; the settings that workers share."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"

JSON = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql")
MARIADB = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    commit_id = sa.Column("commit_id", sa.String(36), nullable=False, server_default="0")
    op.add_column("nodes", commit_id, if_not_exists=again)
    op.add_column("nodes", sa.Column("sources", JSON), if_not_exists=again)
    op.create_table(
        "shared_settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text().with_variant(mysql.LONGTEXT(), "mysql"), nullable=False),
        **MARIADB,
        if_not_exists=again,
    )
