# SPDX-License-Identifier: Apache-2.0
"""What this code relies on of oslo.db besides its documentation: an upgrade that changes it fails here."""

import ast
import inspect
from pathlib import Path

import pytest
from oslo_db.sqlalchemy import engines, exc_filters

from tracker_worker.conf import opts
from tracker_worker.db import engine

PACKAGE = Path(engine.__file__).parents[1]
MODULES = [path for path in PACKAGE.rglob("*.py") if "oslo_db" in path.read_text()]


def private_names(text: str) -> list[str]:
    """The private names of oslo.db that a module imports, or takes of what it has imported."""
    tree = ast.parse(text)
    imports = [
        (f"{node.module}.{alias.name}", alias.asname or alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "oslo_db"
        for alias in node.names
    ]
    names = {name for _, name in imports}
    taken = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    paths = [path for path, _ in imports] + [each for each in taken if each.partition(".")[0] in names]
    return [path for path in paths if any(part.startswith("_") for part in path.split("."))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_of_oslo_db_are_public(path: Path) -> None:
    assert private_names(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from oslo_db._i18n import _", ["oslo_db._i18n._"]),
        ("from oslo_db.sqlalchemy import engines as e\ne._test_connection(1)", ["e._test_connection"]),
        ("from oslo_db import exception\nexception.DBError", []),
    ],
)
def test_private_name_of_oslo_db_is_found(text: str, found: list[str]) -> None:
    assert private_names(text) == found


def test_options_are_parameters_of_the_engine_of_oslo_db() -> None:
    parameters = inspect.signature(engines.create_engine).parameters
    assert [option for option in engine._OPTIONS if option not in parameters] == []


def test_logger_of_translated_errors_has_the_name_that_is_silenced() -> None:
    """It logs a traceback of each error that it wraps; the caller logs the error in one line."""
    assert opts._LEVELS[exc_filters.LOG.name] == "CRITICAL"
