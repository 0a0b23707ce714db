# SPDX-License-Identifier: Apache-2.0
"""The host cells and devices that a claim has requested, and those that are assigned to it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

JSON = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    for name in ("numa_request", "numa_topology", "pci_requests", "pci_devices"):
        op.add_column("claims", sa.Column(name, JSON), if_not_exists=again)
    op.add_column(
        "claims",
        sa.Column("assigned", sa.Boolean(), nullable=False, server_default="0"),
        if_not_exists=again,
    )
