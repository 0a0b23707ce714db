# SPDX-License-Identifier: Apache-2.0
"""The instance that a receipt is about; the lease of the relay."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("receipts", sa.Column("instance_uuid", sa.String(36)))
    op.create_table(
        "relay_lease",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
    )
