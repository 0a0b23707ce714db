# SPDX-License-Identifier: Apache-2.0
"""A table with a row for each lease, by name; it replaces the table of the relay's lease."""

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
    """Apply the revision. A lease that is held is dropped: the workers are stopped during a migration."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
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
