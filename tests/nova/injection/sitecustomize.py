# SPDX-License-Identifier: Apache-2.0
"""Gives every test of Nova the adapter of a mode: Python imports this at its start, from PYTHONPATH.

It imports nothing of Nova, the worker or eventlet: Nova must patch the process first, which it has done when
it imports nova.test.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PATCHED = "nova.test"


class _Finder(MetaPathFinder):
    """Finds PATCHED as Python does, with a loader that patches it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from tests.nova import cell_lock

        cell_lock.patch()
        if "TRACKER_WORKER_NOVA_MODE" in os.environ:
            from tests.nova import adapter_fixture

            adapter_fixture.patch(module.TestCase)


if "TRACKER_WORKER_NOVA_TESTS" in os.environ:
    sys.meta_path.insert(0, _Finder())
