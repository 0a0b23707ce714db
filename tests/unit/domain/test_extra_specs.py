# SPDX-License-Identifier: Apache-2.0
"""Which extra specs and image properties are kept, and which texts are booleans."""

from collections.abc import Iterator

import pytest
from msgspec import inspect
from oslo_utils import strutils

from tests.builders import a_flavor, some_resources
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.extra_specs import READ_KEYS_ONLY, bool_from_string, is_secret_name, read_keys
from tracker_worker.domain.fields import Label, Text

TEXTS = [*strutils.TRUE_STRINGS, *strutils.FALSE_STRINGS, "", "2", "truee", "none", "enabled"]
VARIANTS = [text for each in TEXTS for text in (each, each.upper(), each.title(), f" {each}\t")]


@pytest.mark.parametrize("value", [*VARIANTS, True, False, None, 1, 0, 2])
def test_boolean_is_read_as_oslo_reads_it(value: object) -> None:
    assert bool(bool_from_string(value)) is strutils.bool_from_string(value)
    try:
        strict: bool | None = strutils.bool_from_string(value, strict=True)
    except ValueError:
        strict = None
    assert bool_from_string(value) is strict


def structs(shape: inspect.Type, seen: set[type]) -> Iterator[inspect.StructType]:
    """Each type of object that a command carries, at any depth."""
    if isinstance(shape, inspect.StructType):
        if shape.cls in seen:
            return
        seen.add(shape.cls)
        yield shape
        inner = [field.type for field in shape.fields]
    else:
        inner = [
            getattr(shape, name)
            for name in ("item_type", "value_type")
            if isinstance(getattr(shape, name, None), inspect.Type)
        ]
        inner += getattr(shape, "types", ())
    for each in inner:
        yield from structs(each, seen)


def test_fields_of_which_only_read_keys_are_kept_are_the_mappings_of_texts() -> None:
    texts = inspect.type_info(dict[Label, Text])
    seen: set[type] = set()
    found = {
        field.name
        for command in METHODS.values()
        for struct in structs(inspect.type_info(command), seen)
        for field in struct.fields
        if texts in (field.type, *getattr(field.type, "types", ()))
    }
    assert found == set(READ_KEYS_ONLY)


KEPT = {
    "hw:numa_nodes": "2",
    "hw_mem_page_size": "large",
    "resources:PCPU": "1",
    "resources2:VGPU": "1",
    "resources_net-A:CUSTOM_BANDWIDTH": "1",
    "trait_net-A:CUSTOM_FAST": "required",
    "trait:HW_CPU_X86_AVX2": "required",
    "pci_passthrough:alias": "gpu:1",
}
DROPPED = {"quota:vif_outbound_average": "1", "secret": "x", "aggregate:hw:a": "1", "os_type": "x"}


def test_only_keys_that_a_rule_reads_are_kept() -> None:
    assert read_keys(KEPT | DROPPED) == KEPT
    assert a_flavor(extra_specs=KEPT | DROPPED).extra_specs == KEPT


SECRET_NAMES = (
    "password adminPass admin_pass auth_token X-Auth-Token secret_uuid private_key sshkey api-key passphrase "
    "credentials sys_pswd"
)
OTHER_NAMES = "num_instances io_workload bypass boot_mode cpu_arch monkey passthrough keymap"


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_figure_with_the_name_of_a_secret_is_dropped(name: str) -> None:
    known = {"num_instances": 1, "cpu_arch": "x86_64"}
    assert some_resources(stats={name: "hunter2", **known}).stats == known


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_any_other_figure_is_kept(name: str) -> None:
    assert not is_secret_name(name)
