# SPDX-License-Identifier: Apache-2.0
"""Takes a deadlock out of a fixture of Nova's tests, which is there without the adapter, too.

CellDatabases has a lock of readers and a writer around the cell that is targeted. _run_periodics holds it as
a reader and waits for an audit. In that audit libvirt's driver reads the database on another thread, with a
context that targets no cell: another reader. If a request has begun to wait as the writer in between, the
audit waits for the request, the request for _run_periodics, and that for the audit.
"""

from typing import Any

from nova.tests import fixtures


def patch() -> None:
    """Let a context that targets no cell read which one was targeted last, without the lock.

    The writer changes that and nothing else, in one assignment.
    """
    fixtures.CellDatabases._wrap_get_context_manager = _context_manager


def _context_manager(self: Any, context: Any) -> Any:
    return getattr(context, "db_connection", None) or self._last_ctxt_mgr
