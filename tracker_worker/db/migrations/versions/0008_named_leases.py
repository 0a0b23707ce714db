# SPDX-License-Identifier: Apache-2.0
"""A row for each lease, by its name; there was one table for the relay's."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MARIADB = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    """Apply the revision. A lease that somebody holds ends with it: the workers are stopped."""
    # MariaDB commits each statement by itself: a migration that died is begun again.
    again = op.get_bind().dialect.name == "mysql"
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        **MARIADB,
        if_not_exists=again,
    )
    op.drop_table("relay_lease", if_exists=again)
