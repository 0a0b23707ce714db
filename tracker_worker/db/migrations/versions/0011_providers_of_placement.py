# SPDX-License-Identifier: Apache-2.0
"""A table of the nodes' resource providers in Placement, as they were synced last."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0011"
down_revision = "0010"

MARIADB = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}
NAME = sa.String(255)
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
JSON = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    op.create_table(
        "providers",
        sa.Column("node", NAME, nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("changed_at", TIME),
        sa.Column("due_at", TIME),
        sa.Column("synced_at", TIME),
        sa.Column("digest", sa.String(64)),
        sa.Column("known", JSON),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", TEXT),
        sa.Column("foreign_provider", NAME),
        sa.PrimaryKeyConstraint("node", name="pk_providers"),
        **MARIADB,
        if_not_exists=again,
    )
    op.create_index("ix_providers_due_at", "providers", ["due_at"], if_not_exists=again)
