# SPDX-License-Identifier: Apache-2.0
"""The table of hooks fits this Nova: each tap takes what its method takes, under the same names."""

import inspect
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from nova.compute.resource_tracker import ResourceTracker
from tracker_worker.nova import hooks
from tracker_worker.nova.tapping import tapped


def of_the_tracker() -> Iterator[tuple[type[Any], str, Callable[..., Any]]]:
    for name, tap in (hooks.TRACKER | hooks.TRACKER_UNLOCKED).items():
        yield ResourceTracker, name, tap


def names_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of arguments after the first, which is self here and there."""
    return list(inspect.signature(inspect.unwrap(function)).parameters)[1:]


class Hooks(unittest.TestCase):
    def test_taps_take_the_arguments_of_novas_methods(self) -> None:
        for owner, name, tap in (*of_the_tracker(), *hooks.BESIDE_THE_TRACKER):
            with self.subTest(f"{owner.__name__}.{name}"):
                theirs, ours = names_of(getattr(owner, name)), names_of(tap)
                if ours[-2:] == ["args", "kwargs"]:
                    ours = ours[:-2]
                    theirs = theirs[: len(ours)]
                self.assertEqual(theirs, ours)

    def test_methods_under_novas_lock_are_tapped_in_it(self) -> None:
        for name in hooks.TRACKER:
            with self.subTest(name):
                self.assertTrue(hasattr(getattr(ResourceTracker, name), "__wrapped__"))
        for name in hooks.TRACKER_UNLOCKED:
            with self.subTest(name):
                self.assertFalse(hasattr(getattr(ResourceTracker, name), "__wrapped__"))

    def test_readers_are_read_by_the_audit(self) -> None:
        for owner, name, _ in hooks.READERS:
            with self.subTest(name):
                self.assertTrue(callable(getattr(owner, name)))


class Tapping(unittest.TestCase):
    def run_tapped(self, tap: Callable[..., Any], method: Callable[..., Any] = lambda: "of Nova") -> Any:
        return tapped(method, tap)()

    def test_tap_gets_the_result(self) -> None:
        seen: list[Any] = []

        def tap() -> Any:
            seen.append((yield))

        self.assertEqual(("of Nova", ["of Nova"]), (self.run_tapped(tap), seen))

    def test_tap_that_raises_before_does_not_reach_nova(self) -> None:
        def tap() -> Any:
            raise ValueError
            yield

        with self.assertLogs("tracker_worker.nova.tapping", "ERROR"):
            self.assertEqual("of Nova", self.run_tapped(tap))

    def test_tap_that_raises_after_does_not_reach_nova(self) -> None:
        def tap() -> Any:
            yield
            raise ValueError

        with self.assertLogs("tracker_worker.nova.tapping", "ERROR"):
            self.assertEqual("of Nova", self.run_tapped(tap))

    def test_method_that_raises_leaves_the_rest_of_the_tap_out(self) -> None:
        seen: list[str] = []

        def tap() -> Any:
            yield
            seen.append("after")

        def method() -> None:
            raise KeyError

        with self.assertRaises(KeyError):
            self.run_tapped(tap, method)
        self.assertEqual([], seen)
