# SPDX-License-Identifier: Apache-2.0
"""The ledger: nodes, claims, touched, receipts, attempts, outbox, dead letters."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

NAME = sa.String(255)
UUID = sa.String(36)
EVENT_ID = sa.String(64)
COUNT = sa.BigInteger()
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
JSON = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
MARIADB = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}


def upgrade() -> None:
    """Apply the revision."""
    _create_nodes()
    _create_claims()
    _create_touched()
    _create_receipts()
    _create_attempts()
    _create_outbox()
    _create_dead_letters()


def _create_table(name: str, *parts: Any, **options: Any) -> None:
    op.create_table(name, *parts, **MARIADB, if_not_exists=_again(), **options)


def _again() -> bool:
    """Whether tables may exist: MariaDB commits each one, and an interrupted migration is run again."""
    return op.get_bind().dialect.name == "mysql"


def _create_nodes() -> None:
    _create_table(
        "nodes",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("sequence", COUNT, nullable=False),
        sa.Column("usage_sequence", COUNT, nullable=False),
        sa.Column("uuid", UUID),
        sa.Column("host", NAME),
        sa.Column("vcpus_used", COUNT, nullable=False),
        sa.Column("memory_mb_used", COUNT, nullable=False),
        sa.Column("disk_mb_used", COUNT, nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("failed_builds", sa.Integer(), nullable=False),
        sa.Column("conflicts", JSON, nullable=False),
        sa.Column("reserved_vcpus", COUNT, nullable=False),
        sa.Column("reserved_memory_mb", COUNT, nullable=False),
        sa.Column("reserved_disk_mb", COUNT, nullable=False),
        sa.Column("cpu_allocation_ratio", sa.Double(), nullable=False),
        sa.Column("ram_allocation_ratio", sa.Double(), nullable=False),
        sa.Column("disk_allocation_ratio", sa.Double(), nullable=False),
        sa.Column("resources", JSON),
        sa.UniqueConstraint("uuid", name="uq_nodes_uuid"),
    )


def _create_claims() -> None:
    _create_table(
        "claims",
        sa.Column("node", NAME, primary_key=True),
        sa.Column("instance_uuid", UUID, primary_key=True),
        sa.Column("role", sa.String(8), primary_key=True),
        sa.Column("migration_uuid", UUID),
        sa.Column("vcpus", COUNT, nullable=False),
        sa.Column("memory_mb", COUNT, nullable=False),
        sa.Column("disk_mb", COUNT, nullable=False),
        sa.Column("root_gb", COUNT, nullable=False),
        sa.Column("ephemeral_gb", COUNT, nullable=False),
        sa.Column("swap_mb", COUNT, nullable=False),
        sa.Column("volume_backed", sa.Boolean(), nullable=False),
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("os_type", NAME),
        sa.Column("vm_state", sa.String(32), nullable=False),
        sa.Column("task_state", sa.String(32)),
    )


def _create_touched() -> None:
    _create_table(
        "touched",
        sa.Column("node", NAME, primary_key=True),
        sa.Column("instance_uuid", UUID, primary_key=True),
        sa.Column("source", NAME, nullable=False),
        sa.Column("sequence", COUNT, nullable=False),
    )


def _create_receipts() -> None:
    _create_table(
        "receipts",
        sa.Column("event_id", EVENT_ID, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("node", NAME),
        sa.Column("sequence", COUNT),
        sa.Column("method", sa.String(64)),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reply", JSON, nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
    )
    op.create_index("ix_receipts_node_sequence", "receipts", ["node", "sequence"], if_not_exists=_again())


def _create_attempts() -> None:
    _create_table(
        "attempts",
        sa.Column("event_id", EVENT_ID, primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
    )


def _create_outbox() -> None:
    _create_table(
        "outbox",
        sa.Column("id", COUNT.with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("node", NAME),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(8), nullable=False),
        sa.Column("message_id", UUID, nullable=False),
        sa.Column("body", BYTES, nullable=False),
        sqlite_autoincrement=True,
    )


def _create_dead_letters() -> None:
    _create_table(
        "dead_letters",
        sa.Column("id", UUID, primary_key=True),
        sa.Column("event_id", EVENT_ID, nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("node", NAME),
        sa.Column("method", sa.String(64)),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("recorded_at", TIME, nullable=False),
    )
    op.create_index("ix_dead_letters_event_id", "dead_letters", ["event_id"], if_not_exists=_again())
