# SPDX-License-Identifier: Apache-2.0
"""Small values of the domain for every test: flavors, instances, moves, reports, nodes, commands.

What commands carry is what `samples` says that a client sends; a test names only the values that it needs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tests import samples
from tracker_worker.domain.commands import METHOD_OF, METHODS, AnyCommand, GetNode, UpdateAvailableResource
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Decision
from tracker_worker.domain.flavors import Amounts, Flavor
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.node import ClaimPut, Node, Ratios, evolve, remember
from tracker_worker.domain.objects import Instance, Migration, Origin, Resources
from tracker_worker.domain.report import Owner
from tracker_worker.domain.settings import TrackerSettings

NODE = samples.NODE
NODE_UUID = samples.NODE_UUID
HOST = samples.HOST
INSTANCE = samples.INSTANCE_UUID
BYSTANDER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
MOVE = samples.MOVE_UUID
OTHER_MOVE = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
SETTINGS = TrackerSettings()


def a_flavor(vcpus: int = 2, memory_mb: int = 2048, root_gb: int = 20, **more: Any) -> Flavor:
    """A flavor of 2 vcpus, 2 GB of memory and 20 GB of disk, where nothing else is said."""
    return Flavor(**samples.a_flavor(vcpus, memory_mb, root_gb, **more))


def an_instance(uuid: str = INSTANCE, flavor: Flavor | None = None, **more: Any) -> Instance:
    """An instance, by default an active one without a task."""
    return Instance(**samples.an_instance(uuid, flavor or a_flavor(), **more))


def a_migration(uuid: str = MOVE, instance_uuid: str = INSTANCE, **more: Any) -> Migration:
    """A migration, by default a resize from another node to NODE."""
    return Migration(**samples.a_migration(uuid, instance_uuid, **more))


def some_resources(**more: Any) -> Resources:
    """A node's report, by default of 8 vcpus, 16 GB of memory and 100 GB of disk."""
    return Resources(**samples.a_report(**more))


def a_claim(
    role: str = "instance",
    label: str | None = None,
    flavor: Flavor | None = None,
    *,
    uuid: str = INSTANCE,
    volume_backed: bool = False,
    vm_state: str = "active",
    task_state: str | None = None,
    project_id: str = "project-1",
    os_type: str | None = None,
) -> Claim:
    """A claim; `label` is the migration that brought it."""
    return Claim(
        instance_uuid=uuid,
        role=Role(role),
        flavor=flavor or a_flavor(),
        volume_backed=volume_backed,
        project_id=project_id,
        vm_state=vm_state,
        migration_uuid=label,
        os_type=os_type,
        task_state=task_state,
    )


def a_node(
    *claims: Claim,
    name: str = NODE,
    resources: Resources | None = None,
    reserve: Amounts | None = None,
    ratios: Ratios | None = None,
    last_origins: Mapping[str, Origin] | None = None,
    **more: Any,
) -> Node:
    """A tracked node that holds these claims, reserves 512 MB and has Nova's initial ratios."""
    empty = Node(
        name=name,
        resources=resources or some_resources(),
        reserve=Amounts(memory_mb=512) if reserve is None else reserve,
        ratios=ratios or Ratios(4.0, 1.0, 1.0),
        last_origins=last_origins or {},
        **more,
    )
    filled = evolve(empty, [ClaimPut(claim) for claim in claims])
    return replace(filled, sequence=empty.sequence)


def command(method: str, *, node: str = NODE, **arguments: Any) -> AnyCommand:
    """The command of a method."""
    return METHODS[method](node=node, **arguments)


def a_report(
    instances: Iterable[Any] | None = None,
    migrations: Iterable[Any] | None = None,
    *,
    resources: Resources | None = None,
    node: str = NODE,
    **more: Any,
) -> UpdateAvailableResource:
    """An update_available_resource; with `instances` it is an audit."""
    return UpdateAvailableResource(
        node=node,
        resources=resources or some_resources(),
        instances=None if instances is None else list(instances),
        migrations=None if migrations is None else list(migrations),
        **more,
    )


def args_of(a_command: AnyCommand) -> dict[str, Any]:
    """The arguments of a command as plain JSON values, as a client sends them."""
    arguments: dict[str, Any] = to_builtins(a_command)
    return arguments


def method_of(a_command: AnyCommand) -> str:
    """The method of a command."""
    return METHOD_OF[type(a_command)]


def decided(
    node: Node,
    a_command: AnyCommand,
    settings: TrackerSettings = SETTINGS,
    uuid_owners: Mapping[str, Owner] | None = None,
) -> tuple[Node, Decision]:
    """What a command makes of a node, and how it was decided."""
    assert not isinstance(a_command, GetNode), "it asks, and changes nothing"
    decision = decide(node, a_command, settings, uuid_owners or {})
    if not decision.recorded:
        assert not decision.changes
        return remember(node, decision.marks), decision
    return evolve(node, (*decision.changes, *decision.marks)), decision


def after(node: Node, *commands: AnyCommand, settings: TrackerSettings = SETTINGS) -> Node:
    """The node after several commands."""
    for each in commands:
        node, _ = decided(node, each, settings)
    return node


def claims_of(node: Node, uuid: str = INSTANCE) -> dict[str, Claim]:
    """The claims of one instance by role, of which there is at most one each."""
    held = node.claims.get(uuid, ())
    by_role = {claim.role.value: claim for claim in held}
    assert len(by_role) == len(held), f"two claims of one role: {held}"
    return by_role
