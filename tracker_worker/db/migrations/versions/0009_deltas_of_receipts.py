# SPDX-License-Identifier: Apache-2.0
"""What an event changed and its request, kept in its receipt."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0009"
down_revision = "0008"

TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")


def upgrade() -> None:
    """Apply the revision. What earlier events changed is not known: their `delta` stays NULL."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    for column in (sa.Column("request_id", sa.String(64)), sa.Column("delta", TEXT)):
        op.add_column("receipts", column, if_not_exists=again)
