# SPDX-License-Identifier: Apache-2.0
"""An event's attempts in the columns `begun` and `decoded`; they were one number, 2 * begun + decoded."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply the revision."""
    # MariaDB commits each statement: an interrupted migration is run again from its beginning.
    again = op.get_bind().dialect.name == "mysql"
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("attempts")}
    if "count" in columns:
        op.add_column("attempts", sa.Column("begun", sa.Integer()), if_not_exists=again)
        op.add_column("attempts", sa.Column("decoded", sa.Boolean()), if_not_exists=again)
        count = sa.column("count", sa.Integer)
        attempts = sa.table("attempts", sa.column("begun", sa.Integer), sa.column("decoded", sa.Boolean))
        op.execute(attempts.update().values(begun=count // 2, decoded=count % 2 == 1))
    with op.batch_alter_table("attempts") as table:
        table.alter_column("begun", existing_type=sa.Integer(), nullable=False)
        table.alter_column("decoded", existing_type=sa.Boolean(), nullable=False)
        if "count" in columns:
            table.drop_column("count")
