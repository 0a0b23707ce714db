# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.benchmarks.throughput.messages import Account, Audits, Events, Message, Scenario, expected
from tests.builders import decided
from tracker_worker.core.envelope import open_envelope, read_command
from tracker_worker.domain.node import Node


def accounts_after(scenario: Scenario, count: int) -> dict[str, Account]:
    return expected({}, [scenario.message(number) for number in range(count)])


def applied(node: Node, message: Message) -> Node:
    """What tracker-worker's rules make of a node."""
    return decided(node, read_command(open_envelope(message.body)))[0]


def account_of(node: Node) -> Account:
    used = {f"{name}_used": getattr(node.used, name) for name in ("vcpus", "memory_mb", "disk_mb")}
    audited = max(source.audited for source in node.sources.values())
    return Account({"sequence": node.sequence, "claims": len(node.claims), "audited": audited, **used})


@pytest.mark.parametrize("scenario", [Events(1, 0), Events(1, 3), Audits(1, 3), Audits(1, 3, every=5)])
def test_messages_do_to_a_node_what_their_effects_say(scenario: Scenario) -> None:
    node = applied(Node("compute-00000"), scenario.first[0])
    account = account_of(node)
    for number in range(25):
        message = scenario.message(number)
        node = applied(node, message)
        account.update({name: message.effect.get(name, 0) for name in account})
        assert account_of(node) == account


def test_events_leave_as_many_claims_as_there_were() -> None:
    """A round of three is a claim, a change of its state and the oldest instance's end."""
    after = accounts_after(Events(nodes=2, held=4), 2 * 3 * 8)
    assert after["compute-00000"] == after["compute-00001"]
    assert after["compute-00000"] == Account(sequence=24, receipts=24, notified=24)


def test_claim_adds_its_flavor() -> None:
    effect = Events(nodes=1, held=1).message(3).effect
    assert (effect["claims"], effect["vcpus_used"], effect["memory_mb_claimed"]) == (1, 2, 4096)


def test_audits_that_change_nothing_are_only_seen() -> None:
    assert accounts_after(Audits(nodes=1, held=3), 5) == {"compute-00000": Account(audited=5)}


def test_one_audit_of_so_many_finds_the_last_instance_gone_or_back() -> None:
    audits = Audits(nodes=7, held=3, every=5)
    effects = [audits.message(number).effect for number in range(7 * 20)]
    assert sum("sequence" in effect for effect in effects) == 7 * 20 // 5
    after = accounts_after(audits, 7 * 20)
    # Four changes of each node: the instance is back.
    assert {node: account["claims"] for node, account in after.items()} == dict.fromkeys(after, 0)
    assert accounts_after(audits, 7)["compute-00000"]["claims"] == -1
