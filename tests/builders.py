# SPDX-License-Identifier: Apache-2.0
"""Small values of the domain for every test: flavors, instances, moves, reports, nodes, commands.

All of them are real and complete; a test names only what it is about. Nothing here is a mock.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tracker_worker.domain.commands import METHOD_OF, METHODS, Command
from tracker_worker.domain.decide import Decision, decide
from tracker_worker.domain.flavors import Amounts, Flavor
from tracker_worker.domain.node import Claim, ClaimPut, Node, Ratios, Role, evolve, remember
from tracker_worker.domain.objects import Instance, Migration, Origin, Resources
from tracker_worker.domain.settings import TrackerSettings

NODE = "node-1"
NODE_UUID = "11111111-1111-4111-8111-111111111111"
HOST = "host-1"
INSTANCE = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BYSTANDER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
MOVE = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
OTHER_MOVE = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
SETTINGS = TrackerSettings()


def a_flavor(vcpus: int = 2, memory_mb: int = 2048, root_gb: int = 20, **more: Any) -> Flavor:
    """A flavor; by default 2 vcpus, 2048 MB and 20 GB."""
    return Flavor(vcpus=vcpus, memory_mb=memory_mb, root_gb=root_gb, **more)


def an_instance(
    uuid: str = INSTANCE,
    flavor: Flavor | None = None,
    *,
    vm_state: str = "active",
    task_state: str | None = None,
    project_id: str = "project-1",
    **more: Any,
) -> Instance:
    """An instance that is active and has nothing under way."""
    return Instance(
        uuid=uuid,
        project_id=project_id,
        vm_state=vm_state,
        task_state=task_state,
        flavor=flavor or a_flavor(),
        **more,
    )


def a_migration(
    uuid: str = MOVE,
    instance_uuid: str = INSTANCE,
    *,
    type: str = "resize",
    status: str = "migrating",
    source_node: str | None = "elsewhere",
    dest_node: str | None = NODE,
    **more: Any,
) -> Migration:
    """A resize from another node to this one."""
    return Migration(
        uuid=uuid,
        type=type,
        status=status,
        instance_uuid=instance_uuid,
        source_node=source_node,
        dest_node=dest_node,
        **more,
    )


def some_resources(
    *,
    uuid: str = NODE_UUID,
    host: str = HOST,
    vcpus: int = 8,
    memory_mb: int = 16384,
    local_gb: int = 100,
    **more: Any,
) -> Resources:
    """A report of 8 vcpus, 16 GB of memory, 100 GB of disk."""
    return Resources(uuid=uuid, host=host, vcpus=vcpus, memory_mb=memory_mb, local_gb=local_gb, **more)


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
    touched: Mapping[str, Origin] | None = None,
    **more: Any,
) -> Node:
    """A tracked node that holds these claims, reserves 512 MB and has Nova's initial ratios."""
    empty = Node(
        name=name,
        resources=resources or some_resources(),
        reserve=Amounts(memory_mb=512) if reserve is None else reserve,
        ratios=ratios or Ratios(4.0, 1.0, 1.0),
        touched=touched or {},
        **more,
    )
    filled = evolve(empty, [ClaimPut(claim) for claim in claims])
    return replace(filled, sequence=empty.sequence)


def command(method: str, *, node: str = NODE, **arguments: Any) -> Command:
    """The command of a method."""
    return METHODS[method](node=node, **arguments)


def a_report(
    instances: Iterable[Any] | None = None,
    migrations: Iterable[Any] | None = None,
    *,
    resources: Resources | None = None,
    **more: Any,
) -> Command:
    """An update_available_resource; with `instances` it is an audit."""
    return command(
        "update_available_resource",
        resources=resources or some_resources(),
        instances=None if instances is None else list(instances),
        migrations=None if migrations is None else list(migrations),
        **more,
    )


def args_of(a_command: Command) -> dict[str, Any]:
    """The arguments of a command as plain JSON values, as a client sends them."""
    arguments: dict[str, Any] = to_builtins(a_command)
    return arguments


def method_of(a_command: Command) -> str:
    """The method of a command."""
    return METHOD_OF[type(a_command)]


def decided(
    node: Node,
    a_command: Command,
    settings: TrackerSettings = SETTINGS,
    uuid_owners: Mapping[str, str] | None = None,
) -> tuple[Node, Decision]:
    """What a command makes of a node, and how it was decided."""
    decision = decide(node, a_command, settings, uuid_owners or {})
    if not decision.recorded:
        assert not decision.changes
        return remember(node, decision.marks), decision
    return evolve(node, (*decision.changes, *decision.marks)), decision


def after(node: Node, *commands: Command, settings: TrackerSettings = SETTINGS) -> Node:
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
