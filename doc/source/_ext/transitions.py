# SPDX-License-Identifier: Apache-2.0
"""Directives that show the transition table: `transitions` its rows, `scenarios` a figure of them."""

from collections.abc import Callable
from typing import ClassVar

import transition_tables
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Shown(SphinxDirective):
    """Parses the lines that a function returns in its place."""

    lines: ClassVar[Callable[[], list[str]]]

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the lines."""
        self.env.note_dependency(transition_tables.__file__)
        container = nodes.container()
        self.state.nested_parse(StringList(type(self).lines(), "transitions"), self.content_offset, container)
        shown: list[nodes.Node] = container.children
        return shown


class Transitions(_Shown):
    """One table for each command."""

    lines = transition_tables.tables


class Scenarios(_Shown):
    """The figure."""

    lines = transition_tables.figure


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("transitions", Transitions)
    app.add_directive("scenarios", Scenarios)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
