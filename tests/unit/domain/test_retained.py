# SPDX-License-Identifier: Apache-2.0
"""What a claim keeps when its instance is reported, by whichever event."""

import pytest

from tests.builders import a_claim, a_flavor
from tests.topologies import a_pinned_guest, a_request, has, held_device, holding
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.retained import keep_assigned

PINS, OTHER_PINS = a_pinned_guest({0: [2, 3]}), a_pinned_guest({1: [12, 13]})
ASKED = [a_request(request_id="a")]


def chosen(**more: bool) -> Claim:
    """A claim whose device this worker chose."""
    return holding(a_claim(), PINS, [held_device("d1")], requests=ASKED, **more)


@pytest.mark.parametrize("assigned", [True, False])
def test_cpus_stay_if_this_worker_chose_them_and_devices_in_any_case(assigned: bool) -> None:
    known = holding(a_claim(vm_state="stopped"), OTHER_PINS, ["d2"], assigned=False)
    claim = keep_assigned(chosen(assigned=assigned), known, [held_device("d2")])
    assert has(claim) == ({0: [2, 3]} if assigned else {1: [12, 13]}, ["d1"])
    assert (claim.assigned, claim.pci_requests, claim.vm_state) == (assigned, tuple(ASKED), "stopped")


@pytest.mark.parametrize("assigned", [True, False])
def test_what_is_not_known_stays(assigned: bool) -> None:
    held = chosen(assigned=assigned)
    assert keep_assigned(held, a_claim(), None) == held


@pytest.mark.parametrize(("reported", "devices"), [(["d2"], ["d2"]), ([], []), (None, ["d1"])])
def test_in_another_size_only_devices_stay_of_which_nothing_is_known(
    reported: list[str] | None, devices: list[str]
) -> None:
    known = holding(a_claim(flavor=a_flavor(64)), OTHER_PINS, reported or [], assigned=False)
    claim = keep_assigned(chosen(), known, None if reported is None else known.pci_devices)
    assert has(claim) == ({1: [12, 13]}, devices)
    assert claim.pci_requests == (tuple(ASKED) if reported is None else known.pci_requests)
