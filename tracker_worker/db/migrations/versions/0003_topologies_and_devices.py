# SPDX-License-Identifier: Apache-2.0
"""What a claim has asked for and got of host cells and devices."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

JSON = sa.JSON().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement by itself: a migration that died is begun again.
    again = op.get_bind().dialect.name == "mysql"
    for name in ("numa_request", "numa_topology", "pci_requests", "pci_devices"):
        op.add_column("claims", sa.Column(name, JSON), if_not_exists=again)
    op.add_column(
        "claims",
        sa.Column("assigned", sa.Boolean(), nullable=False, server_default="0"),
        if_not_exists=again,
    )
