# SPDX-License-Identifier: Apache-2.0
"""One cache of compiled statements for all engines of a process.

An engine's own cache begins empty, and nearly every test has an engine of its own: without this one, each
would compile the same statements again, which takes longer than to run them.
"""

from typing import Any

from sqlalchemy.sql.compiler import Compiled


class CompiledStatements(dict[Any, Compiled]):
    """The execution option `compiled_cache`, whose keys name a dialect by its kind, not by its identity."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_kind(key), default)

    def __setitem__(self, key: Any, statement: Compiled) -> None:
        super().__setitem__(_of_kind(key), statement)


def _of_kind(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key without the identity of its dialect: its server's version says what else it depends on."""
    dialect, *statement = key
    return type(dialect), dialect.server_version_info, *statement
