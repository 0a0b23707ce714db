# SPDX-License-Identifier: Apache-2.0
"""What a flavor counts for."""

import pytest

from tests.builders import a_flavor
from tracker_worker.domain.flavors import (
    Amounts,
    Flavor,
    amounts_of,
    requested_amounts,
    same_numbers,
)


@pytest.mark.parametrize(
    ("flavor", "volume_backed", "amounts"),
    [
        (a_flavor(1, 2, 3), False, Amounts(1, 2, 3072)),
        (a_flavor(1, 2, 3, ephemeral_gb=4), False, Amounts(1, 2, 7168)),
        (a_flavor(1, 2, 3, swap_mb=1), False, Amounts(1, 2, 3073)),
        (a_flavor(1, 2, 3, ephemeral_gb=1, swap_mb=512), False, Amounts(1, 2, 4608)),
        (a_flavor(1, 2, 3), True, Amounts(1, 2, 0)),
        (a_flavor(1, 2, 3, ephemeral_gb=4, swap_mb=5), True, Amounts(1, 2, 4101)),
        (a_flavor(0, 0, 0), False, Amounts()),
    ],
)
def test_amounts_count_disks_in_mb(flavor: Flavor, volume_backed: bool, amounts: Amounts) -> None:
    assert amounts_of(flavor, volume_backed) == amounts


@pytest.mark.parametrize(
    ("extra_specs", "amounts"),
    [
        ({}, Amounts(1, 2, 3072)),
        ({"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0"}, Amounts()),
        ({"resources:VCPU": "7"}, Amounts(7, 2, 3072)),
        ({"resources:PCPU": "7"}, Amounts(7, 2, 3072)),
        ({"resources:MEMORY_MB": "7"}, Amounts(1, 7, 3072)),
        ({"resources:DISK_GB": "7"}, Amounts(1, 2, 7168)),
        ({"resources1:VCPU": "3", "resources_a-B:VCPU": "4", "resources:VCPU": "0"}, Amounts(7, 2, 3072)),
        ({"resources:VCPU": "x", "resources:MEMORY_MB": "-1", "resources:DISK_GB": ""}, Amounts(1, 2, 3072)),
        ({"resources:CUSTOM_VCPU": "7", "resources.:VCPU": "7", "trait:VCPU": "7"}, Amounts(1, 2, 3072)),
        ({"resources:VCPU": "9" * 5000, "resources:MEMORY_MB": "9" * 4000}, Amounts(1, 2**31 - 1, 3072)),
    ],
)
def test_placement_is_asked_for_what_the_extra_specs_say(
    extra_specs: dict[str, str], amounts: Amounts
) -> None:
    assert requested_amounts(a_flavor(1, 2, 3, extra_specs=extra_specs), volume_backed=False) == amounts


def test_placement_is_asked_for_no_root_disk_of_a_volume_backed_instance() -> None:
    assert requested_amounts(a_flavor(1, 2, 3, swap_mb=5), volume_backed=True) == Amounts(1, 2, 5)


def test_amounts_add_and_subtract_below_zero() -> None:
    small, large = Amounts(1, 20, 300), Amounts(2, 50, 100)
    assert small.plus(large) == Amounts(3, 70, 400)
    assert small.minus(large) == Amounts(-1, -30, 200)


@pytest.mark.parametrize(
    "other",
    [
        a_flavor(9, 2, 3, ephemeral_gb=4, swap_mb=5),
        a_flavor(1, 9, 3, ephemeral_gb=4, swap_mb=5),
        a_flavor(1, 2, 9, ephemeral_gb=4, swap_mb=5),
        a_flavor(1, 2, 3, ephemeral_gb=9, swap_mb=5),
        a_flavor(1, 2, 3, ephemeral_gb=4, swap_mb=9),
    ],
)
def test_flavors_differ_by_any_number(other: Flavor) -> None:
    flavor = a_flavor(1, 2, 3, ephemeral_gb=4, swap_mb=5)
    assert not same_numbers(flavor, other)
    assert not same_numbers(other, flavor)


def test_flavors_of_other_names_have_the_same_numbers() -> None:
    named = a_flavor(name="one", id="1", extra_specs={"hw:numa_nodes": "1"})
    assert same_numbers(named, a_flavor(name="two", id="2"))
