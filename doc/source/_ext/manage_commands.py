# SPDX-License-Identifier: Apache-2.0
"""The directives `.. manage-synopsis::` and `.. manage-command:: NAME`, made of the table of the commands.

The content of `manage-command` is the description of the command, which only the pages have.
"""

from typing import ClassVar

from command_text import COMMAND_OF, SOURCES, end, section, synopsis
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class ManageSynopsis(SphinxDirective):
    """Insert the usage of every command."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the literal block."""
        _note_sources(self)
        return self.parse_text_to_nodes(synopsis())


class ManageCommand(SphinxDirective):
    """Insert the section of a command."""

    required_arguments: ClassVar[int] = 1
    final_argument_whitespace: ClassVar[bool] = True
    has_content: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return the section of the command that the argument names."""
        name = self.arguments[0]
        if name not in COMMAND_OF:
            raise self.error(f"there is no command {name!r}: {', '.join(COMMAND_OF)}")
        _note_sources(self)
        command = COMMAND_OF[name]
        (found,) = self.parse_text_to_nodes(section(command), allow_section_headings=True)
        found += self.parse_content_to_nodes()
        found += self.parse_text_to_nodes(end(command))
        return [found]


def _note_sources(directive: SphinxDirective) -> None:
    for source in SOURCES:
        directive.env.note_dependency(str(source))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives."""
    app.add_directive("manage-synopsis", ManageSynopsis)
    app.add_directive("manage-command", ManageCommand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
