# SPDX-License-Identifier: Apache-2.0
"""The request of a claim command: flavor, NUMA topology, PCI devices."""

from collections.abc import Mapping

from msgspec.structs import replace

from tracker_worker.domain.commands import InstanceClaim, MoveClaim, ResizeClaim
from tracker_worker.domain.extra_specs import PCI_ALIAS
from tracker_worker.domain.fields import RequestSource
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.held_claims import Claim, Role, claim_for, with_reported
from tracker_worker.domain.numa.constraints import constraints_of, pci_numa_policy_of
from tracker_worker.domain.numa.topology import request_of
from tracker_worker.domain.objects import Instance, PciRequest
from tracker_worker.domain.pci.specs import requests_of
from tracker_worker.domain.settings import TrackerSettings

AnyClaim = InstanceClaim | MoveClaim


def wanted_claim(command: AnyClaim, settings: TrackerSettings) -> Claim:
    """Return the claim that a command requests, without assigned CPUs and devices.

    Raises RequestRefused if flavor and image conflict or one is invalid, or if an alias is not defined.
    """
    instance = command.instance
    claim = _bare(command)
    if isinstance(command, InstanceClaim):
        topology = request_of(instance.numa_topology)
        if topology is None:
            topology = constraints_of(instance.flavor, instance.image_properties)
        return replace(claim, numa_request=topology, pci_requests=_boot_requests(instance, settings))
    flavor, images = flavor_of(command), _images(command)
    requests = command.pci_requests
    if requests is None:
        requests = [*_alias_requests(flavor, None, settings), *_ports(instance)]
    return replace(claim, numa_request=constraints_of(flavor, images), pci_requests=tuple(requests))


def decided_claim(command: AnyClaim) -> Claim:
    """Return the claim that another tracker granted, with the topology and devices as sent."""
    instance, claim = command.instance, _bare(command)
    if isinstance(command, InstanceClaim):
        reported = with_reported(claim, instance.numa_topology, instance.pci_devices)
        return replace(reported, pci_requests=tuple(instance.pci_requests))
    migration = command.migration
    reported = with_reported(claim, migration.new_numa_topology, migration.new_pci_devices)
    return replace(reported, pci_requests=tuple(command.pci_requests or instance.pci_requests))


def _bare(command: AnyClaim) -> Claim:
    if isinstance(command, InstanceClaim):
        return claim_for(command.instance, Role.INSTANCE, None)
    return claim_for(command.instance, Role.INCOMING, command.migration.uuid, flavor_of(command))


def flavor_of(command: AnyClaim) -> Flavor:
    """Return the flavor that a command claims: for a resize the new one."""
    return command.flavor if isinstance(command, ResizeClaim) else command.instance.flavor


def _images(command: MoveClaim) -> Mapping[str, str]:
    given = command.image_properties
    return command.instance.image_properties if given is None else given


def _boot_requests(instance: Instance, settings: TrackerSettings) -> tuple[PciRequest, ...]:
    """Return the requests of a boot: the flavor's, unless the instance has these, then the instance's."""
    brought = instance.pci_requests
    if any(request.source != RequestSource.PORT for request in brought):
        return tuple(brought)
    policy = pci_numa_policy_of(instance.flavor, instance.image_properties)
    return (*_alias_requests(instance.flavor, policy, settings), *brought)


def _ports(instance: Instance) -> list[PciRequest]:
    return [request for request in instance.pci_requests if request.source == RequestSource.PORT]


def _alias_requests(
    flavor: Flavor, numa_policy: str | None, settings: TrackerSettings
) -> tuple[PciRequest, ...]:
    """Return the requests of a flavor's aliases; `numa_policy` takes precedence over the aliases' own.

    Source: Nova applies the policy of flavor and image to a boot only (get_pci_requests_from_flavor).
    """
    alias = flavor.extra_specs.get(PCI_ALIAS)
    if not alias:
        return ()
    return requests_of(alias, settings.aliases, numa_policy)
