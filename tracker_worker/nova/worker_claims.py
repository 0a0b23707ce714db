# SPDX-License-Identifier: Apache-2.0
"""Nova's claims, tested by the worker. For Nova's tracker this module takes the place of nova.compute.claims.

A claim is made in its constructor, in Nova's lock; its tracker is a ReplaceResourceTracker.
"""

import functools
from collections.abc import Callable
from typing import Any

from nova import exception
from nova.compute import claims
from nova.objects import fields

from tracker_worker.nova import conversion, devices, node_view
from tracker_worker.nova.conversion import Json
from tracker_worker.nova.replace import NotDecided


class Claim(claims.Claim):  # type: ignore[misc]
    """The claim of a boot or an unshelve, tested by the worker."""

    def _claim_test(self, compute_node: Any, limits: Any = None) -> None:
        instance = self.tracker.converted(self.instance_ref)
        requests = devices.with_ids(instance.get("pci_requests", []))
        args = {"instance": instance | {"pci_requests": requests}, "limits": conversion.limits(limits)}
        claim = self.tracker.ask(self.context, "instance_claim", self.nodename, requests, **args)
        self.claimed_numa_topology = node_view.instance_topology(claim)


class MoveClaim(claims.MoveClaim):  # type: ignore[misc]
    """The claim of a move, tested by the worker."""

    def _claim_test(self, compute_node: Any, limits: Any = None) -> None:
        method, args = self._command()
        try:
            self._ask(method, limits, args)
        except NotDecided as error:
            if method != "resize_claim":
                raise
            # Nova puts a server in ERROR for any other exception, unless it finds another host.
            raise exception.InstanceFaultRollback(error) from error

    def _ask(self, method: str, limits: Any, args: Json) -> None:
        converted = self.tracker.converted(self.instance_ref)
        requests = devices.with_ids(conversion.pci_requests(self._pci_requests) or [])
        claim = self.tracker.ask(
            self.context,
            method,
            self.nodename,
            requests,
            instance={name: value for name, value in converted.items() if name != "pci_requests"},
            migration=conversion.migration(
                self.migration,
                old_flavor=converted["flavor"],
                new_flavor=conversion.flavor(self.flavor),
                node=self.instance_ref.node,
            ),
            pci_requests=requests,
            limits=conversion.limits(limits),
            **args,
        )
        self.claimed_numa_topology = node_view.instance_topology(claim)

    def _command(self) -> tuple[str, Json]:
        """Return the command for this type of migration and what it has beside the others."""
        if self.migration.is_live_migration:
            return "live_migration_claim", {}
        if self.migration.migration_type == fields.MigrationType.EVACUATION:
            return "rebuild_claim", {}
        images = conversion.image_properties(self.image_meta) if self.image_meta else None
        of_image = {} if images is None else {"image_properties": images}
        return "resize_claim", {"flavor": conversion.flavor(self.flavor), **of_image}


def pre_check(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step of a live migration's pre-check that fails as such when the worker has not decided.

    Nova then tries another host, or leaves the server as it was. After a PciDeviceRequestFailed it puts the
    server in ERROR.
    """

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except exception.PciDeviceRequestFailed as error:
            if isinstance(error.__cause__, NotDecided):
                raise exception.MigrationPreCheckError(reason=error.__cause__.format_message()) from error
            raise

    return run
