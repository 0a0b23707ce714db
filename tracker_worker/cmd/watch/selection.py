# SPDX-License-Identifier: Apache-2.0
"""Which notifications a watch shows: by node, project and event type. Pure."""

from fnmatch import fnmatchcase

from msgspec import Struct

from tracker_worker.core.received_notification import NotificationData

TYPE_PREFIX = "compute_node."


class Selection(Struct, frozen=True):
    """Patterns of the shell for nodes and event types, of which one must match; without any, all match.

    The prefix `compute_node.` of event types may be left out.
    """

    nodes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    project: str | None = None

    def has_node(self, node: str | None) -> bool:
        """Tell whether a node is selected. Notifications without a node are left out by any pattern."""
        if not self.nodes:
            return True
        return node is not None and any(fnmatchcase(node, pattern) for pattern in self.nodes)

    def has_type(self, event_type: str) -> bool:
        """Tell whether an event type is selected."""
        name = event_type.removeprefix(TYPE_PREFIX)
        return not self.types or any(fnmatchcase(name, each.removeprefix(TYPE_PREFIX)) for each in self.types)

    def has_instances_in(self, usage: NotificationData) -> bool:
        """Tell whether the selected project has instances on a node, by the `stats` of its usage."""
        return self.project is None or bool(usage.stats.get(f"num_proj_{self.project}"))

    def __str__(self) -> str:
        """The selection in words; empty if everything is selected."""
        parts = [f"node {' '.join(self.nodes)}"] if self.nodes else []
        parts += [f"event {' '.join(self.types)}"] if self.types else []
        parts += [f"project {self.project}"] if self.project is not None else []
        return ", ".join(parts)
