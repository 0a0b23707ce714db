# SPDX-License-Identifier: Apache-2.0
"""A real engine on a real SQLite file, with a hook at every operation that can raise the driver's errors."""

from collections.abc import Callable
from typing import Any, Protocol

import sqlalchemy as sa

from tracker_worker.db.engine import create_engine

SERVER = "server"
"""Key in a connection's info: the number of its server."""


class Hooks(Protocol):
    """What the simulation does at the operations of one worker's engine. Each may raise."""

    def server(self) -> int: ...

    def connecting(self) -> None: ...

    def executing(self, writes: bool, text: str, server: int) -> None: ...

    def executed(self, writes: bool, text: str) -> None: ...

    def committing(self) -> None: ...

    def committed(self) -> None: ...

    def rolled_back(self) -> None: ...


def hooked_engine(url: str, hooks: Hooks, julian_day: Callable[[], float]) -> sa.Engine:
    """Return an engine as the worker makes it; the clock of the database is `julian_day`.

    Each connection belongs to the server that was running when it was made.
    """
    engine = create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        record.info[SERVER] = hooks.server()
        # No power failure is simulated, and the kernel keeps what a killed process has written.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA busy_timeout = 0")
        connection.create_function("julianday", 1, lambda _moment: julian_day())

    @sa.event.listens_for(engine, "do_connect")
    def connecting(*_: object) -> None:
        hooks.connecting()

    @sa.event.listens_for(engine, "do_execute")
    def executing(_cursor: object, text: str, _parameters: object, context: Any) -> None:
        hooks.executing(_writes(text), text, _server(context))

    @sa.event.listens_for(engine, "do_executemany")
    def executing_many(_cursor: object, text: str, _parameters: object, context: Any) -> None:
        hooks.executing(_writes(text), text, _server(context))

    @sa.event.listens_for(engine, "after_cursor_execute")
    def executed(_connection: object, _cursor: object, text: str, *_: object) -> None:
        hooks.executed(_writes(text), text)

    @sa.event.listens_for(engine, "rollback")
    def rolled_back(_connection: object) -> None:
        hooks.rolled_back()

    really_commit = engine.dialect.do_commit

    def commit(dbapi_connection: Any) -> None:
        hooks.committing()
        really_commit(dbapi_connection)
        hooks.committed()

    engine.dialect.do_commit = commit  # type: ignore[method-assign]
    return engine


def _server(context: Any) -> int:
    number: int = context.root_connection.connection.info[SERVER]
    return number


def _writes(text: str) -> bool:
    return not text.lstrip().startswith(("SELECT", "PRAGMA"))
