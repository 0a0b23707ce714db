# SPDX-License-Identifier: Apache-2.0
"""Nova's tracker without its own counting: the worker decides, and its view goes into Nova's compute node.

Nova's methods run as they are: they save instances and migrations, claim and free devices, and report to
Placement. What they count is replaced: a claim is a call to the worker, devices are those that it has chosen,
and what a compute node has used is written back from the node view, where Nova's scheduler reads it.
"""

import collections
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from nova import exception, utils
from nova.compute import resource_tracker, vm_states
from nova.compute import stats as compute_stats

from tracker_worker.exceptions import CommandRefused, TrackerWorkerException
from tracker_worker.nova import chosen_devices, conversion, devices, node_view
from tracker_worker.nova.calls import PROBE_SECONDS, UNANSWERED, Calls
from tracker_worker.nova.conversion import Json
from tracker_worker.nova.private_apis import save_compute_node
from tracker_worker.nova.tap import TapResourceTracker, cast_devices, plain
from tracker_worker.nova.tapping import Tap, tapped
from tracker_worker.rpcapi import Claim, TrackerAPI

LOG = logging.getLogger(__name__)

_REFUSED = "Insufficient compute resources: "


class NotDecided(exception.ComputeResourcesUnavailable):  # type: ignore[misc]
    """The worker has not decided on a claim: it did not answer, or cannot process it."""


class _Uncounted(compute_stats.Stats):  # type: ignore[misc]
    """The statistics of a node as the worker counts them."""

    def update_stats_for_instance(self, instance: Any, is_removed: bool = False) -> None:
        """Count nothing."""

    def build_failed(self) -> None:
        """Count nothing."""

    def build_succeeded(self) -> None:
        """Count nothing."""


class ReplaceResourceTracker(TapResourceTracker):
    """Nova's tracker with the worker's decisions. All its methods run in Nova's lock."""

    def __init__(self, host: str, driver: Any, reportclient: Any = None) -> None:
        super().__init__(host, driver, reportclient=reportclient)
        self.stats: Any = collections.defaultdict(_Uncounted)
        self._granted: Claim | None = None
        self._chosen: list[list[str]] = []
        self._changed: dict[str, tuple[Any, Any]] = {}
        self._calls = Calls(self.casts)
        self._node = ""
        self._others_views: set[str] = set()
        self._fetched: dict[str, Json] = {}
        self._fetches = True

    def ask(self, context: Any, method: str, node: str, requests: list[Json], **args: Any) -> Json:
        """Make a claim and return it. Raises Nova's ComputeResourcesUnavailable."""
        self._node = node
        if node in self._others_views:
            raise NotDecided(reason="the worker knows this compute node by another uuid")
        reply = self._call(lambda api: getattr(api, method)(plain(context), node, **args))
        self._granted = reply
        claim: Json = reply["claim"]
        self._chosen = devices.chosen_for(requests, claim["pci_devices"])
        return claim

    def give_back(self) -> None:
        """Abort the claim that the method which ends has made."""
        granted, self._granted = self._granted, None
        if granted is not None:
            # Few wait: each follows a claim that the worker has granted.
            self.casts.put_always(lambda api: granted.abort())

    def keep(self) -> None:
        """Keep the claim that the method which ends has made: Nova has saved it."""
        granted, self._granted = self._granted, None
        if granted is not None:
            granted.saved()

    def claim_pci_devices(self, context: Any, pci_requests: Any, instance_numa_topology: Any) -> Any:
        """Claim devices for an attachment or a live migration. Raises PciDeviceRequestFailed."""
        node, requests = self.pci_node(), conversion.pci_requests(pci_requests) or []
        unlocked = inspect.unwrap(super().claim_pci_devices)
        if node is None or not requests:
            return unlocked(self, context, pci_requests, instance_numa_topology)
        uuid = pci_requests.instance_uuid
        try:
            chosen = self._choose(
                context, node, pci_requests, conversion.numa_topology(instance_numa_topology)
            )
            taken = unlocked(self, context, pci_requests, instance_numa_topology)
        except Exception:
            # The worker may have granted what Nova has not taken, or may grant it later.
            held = devices.held_for(requests, self.pci_tracker.pci_devs, uuid)
            cast_devices(self, context, node, uuid, requests, held)
            raise
        if [device.address for device in taken] != chosen:
            cast_devices(self, context, node, uuid, requests, taken)
        return taken

    def write_back(self) -> None:
        """Write the node view into the compute nodes that the method which ends has changed."""
        changed, self._changed = self._changed, {}
        for node, (context, compute_node) in changed.items():
            try:
                view = self._call(functools.partial(_view_of, node)) if self._answered else None
            except exception.ComputeResourcesUnavailable:
                view = None
            if view is None:
                LOG.warning("Compute node %s keeps the usage that it had: no answer from the worker", node)
            elif self._is_view_of(compute_node, view):
                node_view.write(compute_node, self.stats[node], view)
                self._tell_devices(context, node, view)
                save_compute_node(self, context, compute_node)
        if changed and self.pci_tracker:
            self.pci_tracker.save(next(iter(changed.values()))[0])

    def write_now(self) -> None:
        """Write back what the worker says now, in place of what was fetched before."""
        nodes = [*self._changed]
        self.write_back()
        for node in nodes:
            self._fetched.pop(node, None)

    def write_fetched(self) -> None:
        """Write back what was fetched after the change before this one, and have the next view fetched."""
        changed, self._changed = self._changed, {}
        for node, (context, compute_node) in changed.items():
            view = self._fetched.pop(node, None)
            if view is not None and self._is_view_of(compute_node, view):
                node_view.write(compute_node, self.stats[node], view)
                save_compute_node(self, context, compute_node)
            self.casts.put(functools.partial(self._fetch, node))

    def remove_node(self, nodename: str) -> None:
        """Forget the node's view, too."""
        super().remove_node(nodename)
        self._fetched.pop(nodename, None)
        self._others_views.discard(nodename)

    def _fetch(self, node: str, api: TrackerAPI) -> None:
        """Fetch a node view. After one that got no answer fetch none until a call got one. Sender thread."""
        if not self._fetches:
            return
        try:
            self._fetched[node] = api.within(PROBE_SECONDS).get_node({}, node)
        except UNANSWERED:
            self._fetches = False
        except TrackerWorkerException as error:
            LOG.info("The view of node %s is not there: %s", node, error)

    def _is_view_of(self, compute_node: Any, view: Json) -> bool:
        """Tell whether a view is that of this compute node, and not of an earlier one of its name.

        The worker refuses the reports of a host that was installed anew until its old node is removed.
        """
        name, uuid = compute_node.hypervisor_hostname, compute_node.uuid
        if view["uuid"] == uuid:
            self._others_views.discard(name)
            return True
        self._others_views.add(name)
        LOG.warning(
            "Compute node %s has uuid %s in Nova and %s in the worker: claims fail, and it keeps the usage "
            "that it had, until the worker's node is removed (tracker-worker-manage node remove %s)",
            name,
            uuid,
            view["uuid"],
            name,
        )
        return False

    @property
    def _answered(self) -> bool:
        return not self._calls.is_silent

    def _call(self, job: Callable[[TrackerAPI], Any]) -> Any:
        """Call the worker for the node that the method in Nova's lock concerns. Raises NotDecided."""
        try:
            reply = self._calls.make(self._node, job)
        except CommandRefused as error:
            reason = str(error).removeprefix(_REFUSED).rstrip(".")
            raise exception.ComputeResourcesUnavailable(reason=reason) from error
        except UNANSWERED as error:
            # The reason becomes the server's fault, which its tenant reads.
            raise NotDecided(reason="no answer from the worker") from error
        except TrackerWorkerException as error:
            LOG.exception("The worker cannot process a call")
            raise NotDecided(reason="the worker cannot process it") from error
        self._fetches = True
        return reply

    def _update_usage(self, usage: Any, nodename: str, sign: int = 1) -> None:
        """Count nothing."""

    def _update(self, context: Any, compute_node: Any, startup: bool = False) -> None:
        self._update_to_placement(context, compute_node, startup)
        self._node = compute_node.hypervisor_hostname
        self._changed[self._node] = (context, compute_node)

    def _setup_pci_tracker(self, context: Any, compute_node: Any, resources: Any) -> None:
        super()._setup_pci_tracker(context, compute_node, resources)
        stats = self.pci_tracker.stats
        stats.consume_requests = functools.partial(self._consume, type(stats).consume_requests.__get__(stats))

    def _tell_devices(self, context: Any, node: str, view: Json) -> None:
        """Cast which devices instances have in Nova and not in the worker, or the other way round."""
        tracker = self.pci_tracker_of(node)
        if tracker is not None:
            for method, args in devices.differing(view, tracker.pci_devs):
                self.casts.cast(plain(context), method, node, **args)

    def _choose(self, context: Any, node: str, pci_requests: Any, topology: Json | None) -> list[str]:
        """Have the worker choose devices, and return their addresses. Raises PciDeviceRequestFailed."""
        self._node = node
        requests = conversion.pci_requests(pci_requests) or []
        args = (plain(context), node, pci_requests.instance_uuid, requests)
        try:
            reply = self._call(lambda api: api.claim_pci_devices(*args, numa_topology=topology))
        except exception.ComputeResourcesUnavailable as error:
            raise exception.PciDeviceRequestFailed(requests=pci_requests) from error
        self._chosen = devices.chosen_for(requests, reply["claim"]["pci_devices"])
        return [address for addresses in self._chosen for address in addresses]

    def _consume(self, novas_choice: Callable[..., Any], requests: Any, numa_cells: Any = None) -> list[Any]:
        """Take the devices that the worker has chosen, or Nova's choice. Raises what its caller expects."""
        chosen, self._chosen = self._chosen, []
        try:
            return chosen_devices.take(self.pci_tracker, chosen, novas_choice, requests, numa_cells)
        except exception.PciDeviceRequestFailed as error:
            if self._granted is None:  # Of claim_pci_devices, whose callers expect this error.
                raise
            raise exception.ComputeResourcesUnavailable(reason="Claim pci failed") from error


def claim(tracker: ReplaceResourceTracker, *args: Any, **kwargs: Any) -> Tap:
    """Keep the worker's claim; give it back when the rest of Nova's method fails."""
    try:
        yield
    except GeneratorExit:
        tracker.give_back()
        raise
    tracker.keep()


def write_back(tracker: ReplaceResourceTracker, *args: Any, **kwargs: Any) -> None:
    """Write back at once: the scheduler has to know what is used."""
    tracker.write_now()


def write_back_states(tracker: ReplaceResourceTracker, context: Any, instance: Any, nodename: str) -> None:
    """Write back with the next change, unless the instance is released: Nova's lock waits for no answer."""
    if vm_states.allow_resource_removal(vm_state=instance.vm_state, task_state=instance.task_state):
        tracker.write_now()
    else:
        tracker.write_fetched()


def written_back_in_lock(
    method: Callable[..., Any], tap: Callable[..., Tap], write: Callable[..., None]
) -> Callable[..., Any]:
    """Return a method that takes Nova's lock, with a tap and the write-back inside that lock.

    `write` gets the method's arguments.
    """
    run = tapped(inspect.unwrap(method), tap)

    @functools.wraps(run)
    def written_back(tracker: ReplaceResourceTracker, *args: Any, **kwargs: Any) -> Any:
        try:
            result = run(tracker, *args, **kwargs)
        except BaseException:
            try:
                write(tracker, *args, **kwargs)
            except Exception:  # The method's own error stays the one that is raised.
                LOG.exception("What a failed method has changed is not written back before the next audit")
            raise
        write(tracker, *args, **kwargs)
        return result

    synchronized = utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
    locked: Callable[..., Any] = synchronized(written_back)
    return locked


def _view_of(node: str, api: TrackerAPI) -> Json:
    return api.get_node({}, node)
