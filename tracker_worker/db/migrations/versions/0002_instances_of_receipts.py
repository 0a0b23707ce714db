# SPDX-License-Identifier: Apache-2.0
"""The instance uuid of a receipt; the lease of the relay."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MARIADB = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    op.add_column("receipts", sa.Column("instance_uuid", sa.String(36)), if_not_exists=again)
    op.create_table(
        "relay_lease",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        **MARIADB,
        if_not_exists=again,
    )
