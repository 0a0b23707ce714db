# SPDX-License-Identifier: Apache-2.0
"""Indexes and times by which the purge finds the oldest rows; a dead letter's place in its node's history."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
NOW = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'",
    "postgresql": "timezone('utc', now())",
    "mysql": "UTC_TIMESTAMP(6)",
}


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    dialect = op.get_bind().dialect.name
    again = dialect == "mysql"
    op.create_index(
        "ix_receipts_node_sequence_recorded_at",
        "receipts",
        ["node", "sequence", "recorded_at"],
        if_not_exists=again,
    )
    op.drop_index("ix_receipts_node_sequence", "receipts", if_exists=again)
    for column in (
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("position", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("settled_at", TIME),
    ):
        op.add_column("dead_letters", column, if_not_exists=again)
    op.execute("UPDATE dead_letters SET settled_at = recorded_at WHERE state <> 'parked'")
    # Letters whose receipt has no sequence keep NULL: their place in the node's history is unknown.
    op.execute(
        "UPDATE dead_letters SET sequence ="
        " (SELECT sequence FROM receipts WHERE receipts.event_id = dead_letters.event_id)"
    )
    op.create_index("ix_dead_letters_settled_at", "dead_letters", ["settled_at"], if_not_exists=again)
    op.add_column("attempts", sa.Column("counted_at", TIME), if_not_exists=again)
    op.execute(f"UPDATE attempts SET counted_at = {NOW[dialect]} WHERE counted_at IS NULL")  # noqa: S608
    with op.batch_alter_table("attempts") as attempts:
        attempts.alter_column("counted_at", existing_type=TIME, nullable=False)
    op.create_index("ix_attempts_counted_at", "attempts", ["counted_at"], if_not_exists=again)
