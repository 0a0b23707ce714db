# SPDX-License-Identifier: Apache-2.0
"""Taps of what ComputeManager does beside its tracker, each where Nova has just saved the instance.

A tap has the name and the arguments of the method of ComputeManager, or of its rpcapi, that it runs around.
"""

from typing import Any

from nova import exception, objects

from tracker_worker.nova.conversion import given
from tracker_worker.nova.tap import cast_move, finish_move, plain, trackers
from tracker_worker.nova.tapping import Tap


def finish_resize(
    manager: Any, context: Any, instance: Any, migration: Any, *args: Any, **kwargs: Any
) -> Tap:
    """Destination: a resized or migrated instance has landed (ComputeManager._finish_resize)."""
    yield
    finish_move(manager.rt, context, migration.dest_node, instance, migration.uuid)


def revert_instance_flavor_host_node(manager: Any, instance: Any, migration: Any) -> Tap:
    """Source: the instance of a reverted resize is back."""
    yield
    args = {"instance": manager.rt.converted(instance), "migration_uuid": migration.uuid}
    manager.rt.casts.cast({}, "finish_revert_move", migration.source_node, **args)


def check_can_live_migrate_destination(
    manager: Any,
    ctxt: Any,
    instance: Any,
    block_migration: Any,
    disk_over_commit: Any,
    migration: Any,
    limits: Any,
) -> Tap:
    """Destination: nothing later names the migration of a live migration."""
    if migration is not None:
        manager.rt.remember_move(instance.uuid, migration.uuid)
    yield


def post_live_migration(
    manager: Any,
    ctxt: Any,
    instance: Any,
    dest: str,
    block_migration: bool = False,
    migrate_data: Any = None,
    source_bdms: Any = None,
) -> Tap:
    """Source: nothing later names the migration."""
    migration = given(migrate_data, "migration")
    if migration is not None:
        manager.rt.remember_move(instance.uuid, migration.uuid)
    yield


def do_post_live_migration_at_destination(
    manager: Any, context: Any, instance: Any, block_migration: bool
) -> Tap:
    """Destination: a live-migrated instance has landed."""
    yield
    if instance.node is not None:
        migration = manager.rt.moves.pop(instance.uuid, None)
        finish_move(manager.rt, context, instance.node, instance, migration)


def destroy_evacuated_instances(manager: Any, context: Any, node_cache: Any) -> Tap:
    """Source, at its restart: instances that were evacuated meanwhile and have landed."""
    evacuations = yield
    for uuid, migration in evacuations.items():
        try:
            landed = objects.Instance.get_by_uuid(context, uuid).host != manager.host
        except exception.InstanceNotFound:
            landed = True  # And was deleted there.
        if landed:
            cast_move(manager.rt, context, "drop_move_claim_at_source", migration.source_node, migration)


def update_compute_provider_status(manager: Any, context: Any, enabled: bool) -> Tap:
    """The compute service was enabled or disabled."""
    yield
    for node in manager.rt.compute_nodes:
        manager.rt.casts.cast(plain(context), "set_service_status", node, disabled=not enabled)


def cleanup_host(manager: Any) -> Tap:
    """The compute service stops."""
    yield
    manager.rt.casts.stop()


def rpcapi_finish_resize(
    rpcapi: Any, ctxt: Any, instance: Any, migration: Any, *args: Any, **kwargs: Any
) -> Tap:
    """Source: a resized or migrated instance is handed over (compute rpcapi's finish_resize)."""
    tracker = trackers.get(migration.source_compute)
    if tracker is not None:
        cast_move(tracker, ctxt, "start_move", migration.source_node, migration)
    yield


def rpcapi_post_live_migration_at_destination(
    rpcapi: Any, ctxt: Any, instance: Any, block_migration: bool, host: str
) -> Tap:
    """Source: a live-migrated instance has left (compute rpcapi's post_live_migration_at_destination)."""
    node, tracker = instance.node, trackers.get(instance.host)
    yield
    migration = tracker.moves.pop(instance.uuid, None) if tracker is not None else None
    if tracker is not None and migration is not None:
        args = {"instance_uuid": instance.uuid, "migration_uuid": migration}
        tracker.casts.cast(plain(ctxt), "drop_move_claim_at_source", node, **args)
        tracker.forget(instance.uuid)
