# SPDX-License-Identifier: Apache-2.0
"""Nova's provider configuration files (provider.yaml, schema 1.0): custom inventories and traits that
operators add to the providers of nodes. Pure.

Source: nova.compute.provider_config and ResourceTracker._merge_provider_configs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct
from msgspec.structs import replace

from tracker_worker.placement.errors import DesiredStateInvalid
from tracker_worker.placement.limits import CUSTOM, inventory_fault, symbol_fault, unknown_field, uuid_fault
from tracker_worker.placement.records import Inventory, Provider

COMPUTE_NODE = "$COMPUTE_NODE"
"""The uuid that stands for the own provider of each node that no file names."""
OWNER = "OWNER_NOVA"
"""The trait of providers that Nova writes."""
_MAJOR = 1
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
T = TypeVar("T")


class Additions(Struct, frozen=True):
    """What a file adds to a provider. `source` is the name of the file."""

    source: str
    inventories: Mapping[str, Inventory]
    traits: frozenset[str]


class ProviderConfigs(Struct, frozen=True):
    """The contents of all files: additions by the uuid or name of a provider, and what to warn of."""

    additions: Mapping[str, Additions] = {}
    warnings: tuple[str, ...] = ()


NO_CONFIGS = ProviderConfigs()


class _Identification(Struct, frozen=True, forbid_unknown_fields=True):
    uuid: str | None = None
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    def __post_init__(self) -> None:
        if (self.uuid is None) == (self.name is None):
            raise ValueError("Expected exactly one of uuid and name")
        if self.uuid is not None and self.uuid != COMPUTE_NODE and uuid_fault(self.uuid):
            raise ValueError(f"Expected uuid to be a uuid or {COMPUTE_NODE}")

    @property
    def key(self) -> str:
        """The uuid in lower case, $COMPUTE_NODE, or the name."""
        if self.uuid is None:
            return self.name or ""
        return self.uuid if self.uuid == COMPUTE_NODE else self.uuid.lower()


class _Inventories(Struct, frozen=True):
    additional: list[dict[str, Any]] = []


class _Traits(Struct, frozen=True):
    additional: list[str] = []


class _Provider(Struct, frozen=True):
    identification: _Identification
    inventories: _Inventories = _Inventories()
    traits: _Traits = _Traits()


class _File(Struct, frozen=True):
    providers: list[_Provider] = []


def parse(texts: Mapping[str, str]) -> ProviderConfigs:
    """Return the contents of files, given as texts by their names.

    Raises ValueError, which names the file and the key, for whatever Nova would refuse, and for inventories
    that Placement would.
    """
    additions: dict[str, Additions] = {}
    warnings: list[str] = []
    for file, text in sorted(texts.items()):
        content, minor = _load(file, text)
        if minor:
            warnings.append(
                f"{file}: meta.schema_version: this worker knows version {_MAJOR}.0, newer keys are ignored"
            )
        for number, provider in enumerate(_convert(content, _File, file).providers):
            found = _additions(file, f"providers[{number}]", provider)
            known_as = provider.identification.key
            if not found.inventories and not found.traits:
                warnings.append(f"{file}: providers[{number}]: {known_as} gets no inventory and no trait")
            elif known_as in additions:
                files = " and ".join(sorted({additions[known_as].source, file}))
                raise ValueError(f"{file}: providers[{number}]: {known_as} is configured twice, in {files}")
            else:
                additions[known_as] = found
    return ProviderConfigs(additions, tuple(warnings))


def merge(providers: Sequence[Provider], configs: ProviderConfigs) -> tuple[Provider, ...]:
    """Return the providers of a node, its own first, with what the files add to them.

    Raises DesiredStateInvalid where two files configure one provider, or a file and the report one class.
    """
    node = providers[0].name
    return tuple(_merged(node, provider, configs.additions) for provider in providers)


def _merged(node: str, provider: Provider, additions: Mapping[str, Additions]) -> Provider:
    named = sorted({provider.uuid.lower(), provider.name} & additions.keys())
    if len(named) > 1:
        files = " and ".join(sorted({additions[each].source for each in named}))
        reason = f"configured by its name and by its uuid, {provider.uuid}, in {files}"
        raise DesiredStateInvalid(node, provider.name, "provider configuration", reason)
    if not named and provider.parent is None and COMPUTE_NODE in additions:
        named = [COMPUTE_NODE]
    if not named:
        return provider
    added = additions[named[0]]
    for name in sorted(provider.inventories.keys() & added.inventories.keys()):
        reason = f"the node's report has this class: remove it from {added.source}"
        raise DesiredStateInvalid(node, provider.name, f"inventories.{name}", reason)
    return replace(
        provider,
        inventories={**provider.inventories, **added.inventories},
        traits=provider.traits | added.traits | {OWNER},
    )


def _load(file: str, text: str) -> tuple[Any, int]:
    """Return the content of a file, and the minor version of its schema."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    meta = content.get("meta") if isinstance(content, dict) else None
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None or int(found[1]) != _MAJOR:
        raise ValueError(f"{file}: meta.schema_version: must be a text, such as '{_MAJOR}.0' in quotes")
    return content, int(found[2])


def _additions(file: str, where: str, provider: _Provider) -> Additions:
    for number, trait in enumerate(provider.traits.additional):
        _check_custom(file, f"{where}.traits.additional[{number}]", trait)
    inventories = {
        name: inventory
        for number, group in enumerate(provider.inventories.additional)
        for name, inventory in _inventories(file, f"{where}.inventories.additional[{number}]", group)
    }
    return Additions(file, inventories, frozenset(provider.traits.additional))


def _inventories(file: str, where: str, group: Mapping[str, Any]) -> Iterator[tuple[str, Inventory]]:
    for name, fields in group.items():
        _check_custom(file, f"{where}.{name}", name)
        inventory = _convert(fields, Inventory, file, f"{where}.{name}")
        if fault := unknown_field(fields) or inventory_fault(inventory):
            raise ValueError(f"{file}: {where}.{name}.{fault.field}: {fault.reason}")
        yield name, inventory


def _check_custom(file: str, where: str, name: str) -> None:
    if reason := symbol_fault(name):
        raise ValueError(f"{file}: {where}: {reason}")
    if not name.startswith(CUSTOM):
        raise ValueError(f"{file}: {where}: {name} does not begin with {CUSTOM}: files add custom ones only")


def _convert(value: Any, wanted: type[T], file: str, where: str = "") -> T:
    """Return a value of YAML as its type. Raises ValueError with the file and the path of the value."""
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        path = f"{where}{path.rstrip('`')}".removeprefix(".")
        raise ValueError(f"{file}: {path or '$'}: {reason}") from None
