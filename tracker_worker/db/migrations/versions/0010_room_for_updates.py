# SPDX-License-Identifier: Apache-2.0
"""Free space in the pages of `nodes` on PostgreSQL, which each audit updates.

A version of a row that finds room on its page changes no index, and the dead ones are removed without VACUUM.
A batch may update all rows of a page, so that half of the page is left.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply the revision. Pages that are full get their room while their rows are updated."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE nodes SET (fillfactor = 50)")
