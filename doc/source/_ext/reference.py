# SPDX-License-Identifier: Apache-2.0
"""The directive `.. reference:: PART`: a part of the reference, made of the code when docs are built."""

from typing import ClassVar

from docutils import nodes
from reference_text import PARTS, SOURCES
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class Reference(SphinxDirective):
    """Insert a part of the reference, sections included."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the part that the argument names."""
        name = self.arguments[0]
        if name not in PARTS:
            raise self.error(f"there is no part {name!r} of the reference: {', '.join(PARTS)}")
        for source in SOURCES:
            self.env.note_dependency(str(source))
        return self.parse_text_to_nodes(PARTS[name](), allow_section_headings=True)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("reference", Reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
