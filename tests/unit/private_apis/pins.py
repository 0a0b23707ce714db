# SPDX-License-Identifier: Apache-2.0
"""What the tests of private APIs share: a failure names the library, its version and the module to change."""

import inspect
from importlib.metadata import version
from pkgutil import resolve_name
from typing import Any


class Library:
    """A library, and what a module of tracker_worker/private_apis uses of it."""

    def __init__(self, distribution: str, module: str) -> None:
        self._changed = f"{distribution} {version(distribution)} has changed"
        self._change = f"read its source, then change tracker_worker/private_apis/{module}.py and this test"

    def has(self, what: str, found: Any, known: Any) -> None:
        assert found == known, f"{self._changed} {what} from {known!r} to {found!r}: {self._change}"

    def takes(self, name: str, parameters: str) -> None:
        """What has a name has these parameters, in this order; "name=" is one with a default."""
        try:
            function = resolve_name(name)
        except (ImportError, AttributeError):
            raise AssertionError(f"{self._changed} {name}, which is gone: {self._change}") from None
        found = [
            parameter.name + ("" if parameter.default is inspect.Parameter.empty else "=")
            for parameter in inspect.signature(function).parameters.values()
        ]
        self.has(f"the parameters of {name}", found, parameters.split())
