# SPDX-License-Identifier: Apache-2.0
"""The cache of a lane's nodes, as of their last commit. Nodes that are not cached are loaded."""

from collections.abc import Collection, Iterable

from cachetools import LRUCache

from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.db.store import UNTIL_READABLE, NodesBroken
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.node import Node, sum_fault
from tracker_worker.worker.activity import Activity, named
from tracker_worker.worker.node_faults import NodeFaults

_UNTIL_REPAIRED = (
    "its events wait until 'tracker-worker-manage node rebuild' or an audit with startup has repaired it"
)


class NodeCache:
    """Belongs to the lane's thread. The least recently used of more than `most` nodes is dropped.

    Loading raises the database's errors, and NodesBroken where a node's ledger cannot be used.
    """

    def __init__(self, unit_of_work: UnitOfWork, most: int, activity: Activity) -> None:
        self._unit_of_work = unit_of_work
        self._nodes: LRUCache[str, Node] = LRUCache(most)
        self._activity = activity
        self.faults = NodeFaults()

    def cached(self, name: str) -> Node | None:
        """Return a node if it is cached."""
        node: Node | None = self._nodes.get(name)
        return node

    def get(self, names: Collection[str]) -> dict[str, Node]:
        """Return nodes, loading those that are not cached: three statements, however many."""
        nodes = {name: self._nodes[name] for name in names if name in self._nodes}
        if missing := set(names) - nodes.keys():
            nodes |= self.load(sorted(missing))
        return nodes

    def keep(self, nodes: Iterable[Node]) -> None:
        """Cache nodes as they were committed. An untracked one is never cached: another worker may own it."""
        for node in nodes:
            self.faults.note(self._nodes.get(node.name), node)
            if node.tracked:
                self._nodes[node.name] = node
            else:
                self._nodes.pop(node.name, None)

    def forget(self, names: Iterable[str]) -> None:
        """Drop nodes from the cache: they are loaded again when they are needed."""
        for name in names:
            self._nodes.pop(name, None)

    def clear(self) -> None:
        """Drop all nodes: the database may have lost commits, or another worker may have made some."""
        self._nodes.clear()

    def load(self, names: Collection[str]) -> dict[str, Node]:
        """Return nodes from the database whose usage equals the sum of their claims.

        Several statements read a node, and another writer may commit between them: a node that is
        inconsistent is loaded once more before NodesBroken is raised.
        """
        self._activity.step = f"loading {named(names)}"
        nodes = self.load_unchecked(names)
        if broken := sum_faults(nodes.values()):
            nodes |= self._unit_of_work.load(sorted(broken))
            if broken := sum_faults(nodes.values()):
                raise NodesBroken(broken)
        return nodes

    def load_unchecked(self, names: Collection[str]) -> dict[str, Node]:
        """Return nodes from the database without checking their sums.

        If the driver cannot read a row, the nodes are loaded one by one to find it.
        """
        try:
            return self._unit_of_work.load(names)
        except (NodesBroken, *DATABASE_ERRORS):
            raise
        except Exception:
            return self._load_one_by_one(names)

    def _load_one_by_one(self, names: Iterable[str]) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        reasons: dict[str, str] = {}
        for name in names:
            try:
                nodes |= self._unit_of_work.load([name])
            except NodesBroken as broken:
                reasons |= broken.reasons
            except DATABASE_ERRORS:
                raise
            except Exception as error:
                reasons[name] = _unreadable(error)
        if reasons:
            raise NodesBroken(reasons)
        return nodes


def sum_faults(nodes: Iterable[Node]) -> dict[str, str]:
    """Return why nodes are broken, by name: their stored usage is not the sum of their claims."""
    return {node.name: reason for node in nodes if (reason := _why_broken(node)) is not None}


def _why_broken(node: Node) -> str | None:
    try:
        fault = sum_fault(node)
    except Exception as error:  # SQLite stores a text in a column of numbers without an error.
        return _unreadable(error)
    return None if fault is None else f"{fault}; {_UNTIL_REPAIRED}"


def _unreadable(error: Exception) -> str:
    return f"its rows cannot be read ({type(error).__name__}); {UNTIL_READABLE}"
