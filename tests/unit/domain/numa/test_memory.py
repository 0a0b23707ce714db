# SPDX-License-Identifier: Apache-2.0
"""Locked and encrypted memory: what Nova refuses is refused, whether a topology is asked for or not."""

from collections.abc import Mapping

import pytest

from tests.builders import a_flavor
from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.numa.constraints import constraints_of

Specs = Mapping[str, str]

LARGE = {"hw:mem_page_size": "large"}
LOCKED = {"hw:locked_memory": "true"}
ENCRYPTED = {"hw:mem_encryption": "true"}
UEFI = {"hw_firmware_type": "uefi"}
STATELESS = {**UEFI, "hw_firmware_stateless": "yes"}


def of_an_image(specs: Specs) -> dict[str, str]:
    return {key.replace("hw:", "hw_", 1): value for key, value in specs.items()}


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        ({}, {}),
        (LOCKED | LARGE, {}),
        (LARGE, of_an_image(LOCKED)),
        (LOCKED | LARGE, of_an_image(LOCKED)),
        ({"hw:locked_memory": "no"}, of_an_image({"hw:locked_memory": "x"})),
        (ENCRYPTED, UEFI),
        ({}, of_an_image(ENCRYPTED) | UEFI),
        (ENCRYPTED, UEFI | {"hw_machine_type": "pc-q35-2.11"}),
        (ENCRYPTED | {"hw:mem_encryption_model": "amd-sev-es"}, UEFI),
        (ENCRYPTED | {"hw:mem_encryption_model": "intel-tdx"}, STATELESS),
        ({"hw:mem_encryption": "no"}, of_an_image({"hw:mem_encryption": "no"})),
        (LOCKED | LARGE | ENCRYPTED, {}),
    ],
)
def test_memory_that_can_be_had_is_not_refused(specs: Specs, image: Specs) -> None:
    constraints_of(a_flavor(extra_specs=dict(specs)), image)


@pytest.mark.parametrize(
    ("specs", "image", "reason"),
    [
        (LOCKED, {}, "locked_memory value in image or flavor is forbidden when mem_page_size is not set."),
        ({}, of_an_image(LOCKED), "forbidden when mem_page_size is not set."),
        (LOCKED | LARGE, {"hw_locked_memory": "no"}, "value in image (False) and flavor (True) conflict."),
        ({"hw:locked_memory": "no"}, of_an_image(LOCKED), "image (True) and flavor (False) conflict."),
        (ENCRYPTED, {}, "doesn't have the 'hw_firmware_type' property set to 'uefi'"),
        (ENCRYPTED, {"hw_firmware_type": "bios"}, "'hw_firmware_type' property set to 'uefi'"),
        ({"hw:mem_encryption": "no"}, of_an_image(ENCRYPTED) | UEFI, "spec explicitly set to False"),
        (ENCRYPTED, UEFI | {"hw_mem_encryption": "no"}, "hw_mem_encryption property explicitly set to False"),
        (ENCRYPTED, UEFI | {"hw_machine_type": "pc"}, "Machine type 'pc' is not compatible with the image"),
        (
            ENCRYPTED | {"hw:mem_encryption_model": "amd-sev"},
            UEFI | {"hw_mem_encryption_model": "amd-sev-es"},
            "conflicting with the image which has hw_mem_encryption_model property",
        ),
        (ENCRYPTED | {"hw:mem_encryption_model": "x"}, UEFI, "model requested is invalid, given: 'x'"),
        (
            ENCRYPTED | {"hw:mem_encryption_model": "amd-sev-snp"},
            UEFI,
            "The amd-sev-snp memory encryption model requires stateless firmware",
        ),
    ],
)
def test_memory_that_cannot_be_had_is_refused(specs: Specs, image: Specs, reason: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        constraints_of(a_flavor(extra_specs=dict(specs)), image)
    assert reason in str(refused.value)
