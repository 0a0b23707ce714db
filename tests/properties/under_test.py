# SPDX-License-Identifier: Apache-2.0
"""What is tested, behind one interface: the rules alone, and a whole lane with its database."""

import shutil
import tempfile
from pathlib import Path

import msgspec
from msgspec import to_builtins

from tests.builders import SETTINGS
from tests.functional.lanes import LaneBench
from tests.ledger_model import Amounts, Json, amounts_of, total
from tracker_worker.cmd.database import database_file
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import CLAIMS
from tracker_worker.domain import flavors
from tracker_worker.domain.commands import METHODS, AnyCommand, GetNode, LedgerCommand
from tracker_worker.domain.decide import decide
from tracker_worker.domain.node import Node, assert_sum, evolve
from tracker_worker.domain.report import Owner


def read(method: str, args: Json) -> LedgerCommand:
    """The command that a worker would decode."""
    command: AnyCommand = msgspec.json.decode(msgspec.json.encode(args), type=METHODS[method])
    assert not isinstance(command, GetNode), "it changes nothing"
    return command


def decided(node: Node, command: LedgerCommand, owners: dict[str, Owner]) -> tuple[Node, str]:
    """The node after a command, by the rules, and the outcome."""
    decision = decide(node, command, SETTINGS, owners)
    after = evolve(node, (*decision.changes, *decision.marks))
    assert_sum(after)
    assert decision.outcome != "ignored" or not decision.changes
    return after, decision.outcome.value


class Rules:
    """decide and evolve, with a memory of event ids in place of receipts."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._outcomes: dict[str, str] = {}

    def apply(self, method: str, args: Json) -> str:
        """Apply a command; return its outcome."""
        event_id = args["event_id"]
        if event_id not in self._outcomes:
            owners = {
                n.resources.uuid: Owner(n.name, n.resources.host) for n in self._nodes.values() if n.resources
            }
            after, outcome = decided(self.node(args["node"]), read(method, args), owners)
            self._nodes[after.name] = after
            self._outcomes[event_id] = outcome
        return self._outcomes[event_id]

    def node(self, name: str) -> Node:
        return self._nodes.get(name, Node(name))

    def ledger(self, name: str) -> object:
        """The ledger's rows of a node, to be compared."""
        return self.node(name).claims

    def close(self) -> None:
        """Nothing to close."""


class WholeLane:
    """A lane on a database of its own."""

    def __init__(self, empty_database: Path) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tracker-worker-properties-")
        copy = shutil.copyfile(empty_database, database_file(Path(self._directory.name)))
        self._engine = create_engine(f"sqlite:///{copy}")
        self._bench = LaneBench(self._engine)

    def apply(self, method: str, args: Json) -> str:
        """Send a command through the lane; return its outcome."""
        outcome = self._bench.send(read(method, args)).outcome
        return "refused" if outcome == "ComputeResourcesUnavailable" else outcome

    def node(self, name: str) -> Node:
        return self._bench.unit_of_work.load([name])[name]

    def ledger(self, name: str) -> object:
        return [row for row in self._bench.rows(CLAIMS) if row["node"] == name]

    def close(self) -> None:
        self._bench.close()
        self._engine.dispose()
        self._directory.cleanup()


def amounts(of_node: flavors.Amounts) -> Amounts:
    """The worker's amounts as the model's, to be compared."""
    return Amounts(of_node.vcpus, of_node.memory_mb, of_node.disk_mb)


def held(node: Node, uuid: str | None = None) -> Amounts:
    """What the claims of an instance, or of all, count for by their flavors, as the ledger model counts."""
    return total(
        amounts_of(to_builtins(claim.flavor), claim.volume_backed)
        for owner, claims in node.claims.items()
        for claim in claims
        if uuid in (None, owner)
    )
