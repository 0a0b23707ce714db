# SPDX-License-Identifier: Apache-2.0
"""The directive `release-notes` for a tree without git's whole history, from which reno reads notes and
versions.
"""

from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class ReleaseNotes(SphinxDirective):
    """Say where the notes are, in place of reno's directive."""

    has_content: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return a note that says how to get the release notes."""
        text = (
            "This documentation was built without git's history. Build it in a full clone to see the notes."
        )
        return [nodes.note("", nodes.paragraph(text=text))]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("release-notes", ReleaseNotes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
