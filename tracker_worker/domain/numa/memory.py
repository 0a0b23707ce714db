# SPDX-License-Identifier: Apache-2.0
"""Locked and encrypted memory: which combinations of flavor and image are refused.

They do not affect the placement, but a guest that Nova refuses must not get a claim.
Source: nova.virt.hardware.get_locked_memory_constraint and get_mem_encryption_constraint (34.0), with their
wording except for the names of flavor and image.
"""

from collections.abc import Mapping
from enum import StrEnum

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.extra_specs import bool_from_string, truncated
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.numa.extra_specs import asked, one_of

_FIRMWARE, _MACHINE = "uefi", "q35"


class _Model(StrEnum):
    """nova.objects.fields.MemEncryptionModel"""

    AMD_SEV = "amd-sev"
    AMD_SEV_ES = "amd-sev-es"
    AMD_SEV_SNP = "amd-sev-snp"
    INTEL_TDX = "intel-tdx"


_STATELESS = (_Model.AMD_SEV_SNP, _Model.INTEL_TDX)


def refuse_memory_contradictions(flavor: Flavor, image_properties: Mapping[str, str]) -> None:
    """Raise RequestRefused if a request for locked or encrypted memory is contradictory or incomplete."""
    of_flavor = _boolean(flavor.extra_specs.get("hw:locked_memory"))
    of_image = _boolean(image_properties.get("hw_locked_memory"))
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise RequestRefused(
            f"locked_memory value in image ({of_image}) and flavor ({of_flavor}) conflict. A consistent "
            "value is expected if both specified."
        )
    if not (of_image if of_flavor is None else of_flavor):
        _refuse_encryption(flavor, image_properties)
    elif not any(asked(flavor, image_properties, "mem_page_size")):
        raise RequestRefused(
            "locked_memory value in image or flavor is forbidden when mem_page_size is not set."
        )


def _refuse_encryption(flavor: Flavor, image_properties: Mapping[str, str]) -> None:
    of_flavor = _boolean(flavor.extra_specs.get("hw:mem_encryption"))
    of_image = _boolean(image_properties.get("hw_mem_encryption"))
    if not of_flavor and not of_image:
        return
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise RequestRefused(
            f"The flavor has hw:mem_encryption extra spec explicitly set to {of_flavor}, conflicting with "
            f"the image which has hw_mem_encryption property explicitly set to {of_image}"
        )
    model = _model(flavor, image_properties)
    if image_properties.get("hw_firmware_type") != _FIRMWARE:
        raise RequestRefused(
            "Memory encryption is requested but the image metadata doesn't have the 'hw_firmware_type' "
            f"property set to '{_FIRMWARE}'"
        )
    machine = image_properties.get("hw_machine_type")
    if machine is not None and _MACHINE not in machine:
        raise RequestRefused(
            f"Machine type '{truncated(machine)}' is not compatible with the image: {_MACHINE} type is "
            f"required for {model} to work"
        )
    if model in _STATELESS and not _boolean(image_properties.get("hw_firmware_stateless")):
        raise RequestRefused(
            f"The {model} memory encryption model requires stateless firmware but the image metadata doesn't "
            "have the 'hw_firmware_stateless' property set to True"
        )


def _model(flavor: Flavor, image_properties: Mapping[str, str]) -> _Model:
    of_flavor, of_image = asked(flavor, image_properties, "mem_encryption_model")
    if of_flavor is not None and of_image is not None and of_flavor != of_image:
        raise RequestRefused(
            f"The flavor has hw:mem_encryption_model extra spec explicitly set to {truncated(of_flavor)}, "
            "conflicting with the image which has hw_mem_encryption_model property explicitly set to "
            f"{truncated(of_image)}"
        )
    return one_of(of_flavor or of_image, _Model, "Memory encryption model requested") or _Model.AMD_SEV


def _boolean(text: str | None) -> bool | None:
    return None if text is None else bool(bool_from_string(text))
