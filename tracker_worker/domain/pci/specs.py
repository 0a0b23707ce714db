# SPDX-License-Identifier: Apache-2.0
"""[pci] device_spec and alias: which devices are assignable to instances, and how a flavor requests them.

Source: nova.pci.devspec, nova.pci.whitelist and nova.pci.request, without their look-ups on the host.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.extra_specs import PCI_ALIAS, bool_from_string, truncated
from tracker_worker.domain.fields import Label, Name, PciDeviceType, PciNumaPolicy, RequestSource
from tracker_worker.domain.objects import PciDevice, PciRequest, Scalar
from tracker_worker.domain.pci.pools import REMOTE_MANAGED

Expressions = tuple[str, str, str, str]
"""Regular expressions of domain, bus, slot and function, matched with `re.match` as in Nova."""

ANY = "*"
MAX_DEVICES = 4096
MAX_REQUESTS = 1024

_ANYTHING = ".*"
_PARTS = {"domain": (4, 0xFFFF), "bus": (2, 0xFF), "slot": (2, 0x1F), "function": (1, 0x7)}
_HEXADECIMAL = re.compile(r"(0x)?[0-9a-f]+", re.IGNORECASE)
_ADDRESS = re.compile(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)\.([0-9a-f]+)", re.IGNORECASE)
_ALIAS_ID = re.compile(r"[0-9a-f]{4}", re.IGNORECASE)
_COUNT = re.compile(r"0*[0-9]{1,4}")

_PLACEMENT_TAGS = ("resource_class", "traits")
_BOOLEAN_TAGS = (REMOTE_MANAGED, "live_migratable", "managed")

_ALIAS_KEYS = (
    "name", "capability_type", "vendor_id", "product_id", "device_type", "numa_policy",
    "resource_class", "traits", "live_migratable",
)  # fmt: skip
_ALIAS_CHOICES = {
    "capability_type": ("pci",),
    "device_type": (PciDeviceType.STANDARD, PciDeviceType.PF, PciDeviceType.VF),
    "numa_policy": tuple(PciNumaPolicy),
}


class DeviceSpec(Struct, frozen=True):
    """One entry of [pci] device_spec: the devices that it makes assignable, and the tags that they get.

    An id is four lower-case hexadecimal digits, or "*" for any.
    """

    vendor_id: str = ANY
    product_id: str = ANY
    address: Expressions = (_ANYTHING, _ANYTHING, _ANYTHING, _ANYTHING)
    tags: dict[str, str | None] = {}


class Alias(Struct, frozen=True):
    """A name by which flavors request devices; a device must match one of the specs."""

    name: str
    specs: tuple[dict[str, Scalar | list[Scalar]], ...]
    numa_policy: PciNumaPolicy = PciNumaPolicy.LEGACY


def parse_device_specs(texts: Iterable[str]) -> tuple[DeviceSpec, ...]:
    """Return the entries of [pci] device_spec, each text a JSON object or a list of them, in their order.

    Raises ValueError with the option, the entry and the reason. A devname is refused, because only its own
    host can resolve it. Unlike in Nova, a boolean tag that is neither true nor false is refused.
    """
    specs: list[DeviceSpec] = []
    for text in texts:
        try:
            decoded = _json(text)
            entries = decoded if isinstance(decoded, list) else [decoded]
            specs += [_device_spec(_object(entry)) for entry in entries]
        except ValueError as error:
            raise ValueError(f"[pci] device_spec {_quoted(text)}: {error}") from error
    return tuple(specs)


def assignable(devices: Iterable[PciDevice], specs: tuple[DeviceSpec, ...]) -> list[PciDevice]:
    """Return the reported devices that are assignable, with the tags of the first spec that matches.

    Without specs all devices are: the compute host has filtered its report. With specs, a device whose
    address Nova cannot parse (a domain of 32 bits, as behind a volume management device) is left out without
    an error. A numa_node of -1, which means unknown, becomes None.

    Source: nova.pci.whitelist.Whitelist.get_devspec, and how nova.pci.manager takes a report.
    """
    known = [replace(device, numa_node=None) if device.numa_node == -1 else device for device in devices]
    if not specs:
        return known
    return [tagged for device in known if (tagged := _tagged(device, specs)) is not None]


def parse_aliases(texts: Iterable[str]) -> dict[str, Alias]:
    """Return the aliases by name. Entries with the same name are merged: their specs are alternatives.

    Raises ValueError with the option, the entry and the reason. Unlike in Nova, alternatives need no
    device_type; they only must not differ in it.

    Source: nova.pci.request.get_alias_from_config.
    """
    aliases: dict[str, Alias] = {}
    for text in texts:
        try:
            alias = _alias(_object(_json(text)))
            known = aliases.get(alias.name)
            aliases[alias.name] = alias if known is None else _both(known, alias)
        except ValueError as error:
            raise ValueError(f"[pci] alias {_quoted(text)}: {error}") from error
    return aliases


def requests_of(
    alias_spec: str, aliases: Mapping[str, Alias], numa_policy: str | None = None
) -> tuple[PciRequest, ...]:
    """Return the requests of the extra spec `pci_passthrough:alias` ("a1:2, b:1"). `numa_policy` overrides
    the policies of the aliases.

    Raises RequestRefused if an alias is not defined, the text is malformed or the policy is unknown.

    Source: nova.pci.request._translate_alias_to_requests.
    """
    policy = pci_numa_policy(numa_policy)
    asked = alias_spec.split(",")
    if len(asked) > MAX_REQUESTS:
        raise RequestRefused(f"{PCI_ALIAS} names more than {MAX_REQUESTS} aliases")
    return tuple(_request(each, aliases, policy) for each in asked)


def pci_numa_policy(text: str | None) -> PciNumaPolicy | None:
    """Return the NUMA policy that a text names, None without a text. Raises RequestRefused if unknown."""
    if text is None:
        return None
    try:
        return PciNumaPolicy(text)
    except ValueError:
        raise RequestRefused(f"Invalid PCI NUMA affinity configured: {truncated(text)}") from None


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error


def _object(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError("must be a JSON object; repeat the option for several")
    return entry


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")


def _named(what: str, text: str) -> str:
    """Return a text that is a Name, as stored devices and requests need; raise ValueError for another."""
    try:
        return msgspec.convert(text, Name)
    except ValueError as error:
        raise ValueError(f"{what} must be 1 to 255 printable characters") from error


def _labelled(what: str, text: str) -> str:
    """Return a text that is a Label, as stored tags need, possibly empty; raise ValueError for another."""
    try:
        return msgspec.convert(text, Label)
    except ValueError as error:
        raise ValueError(f"{what} must be up to 255 printable characters") from error


def _boolean(key: str, text: str) -> str:
    value = bool_from_string(text)
    if value is None:
        raise ValueError(f"{key} {_quoted(text)} must be true or false")
    return str(value).lower()


def _hexadecimal(what: str, text: str, digits: int, maximum: int) -> str:
    if _HEXADECIMAL.fullmatch(text) is None:
        raise ValueError(f"{what} {_quoted(text)} is neither hexadecimal nor {ANY}")
    number = int(text, 16)
    if number > maximum:
        raise ValueError(f"{what} {_quoted(text)} is above {maximum:x}")
    return f"{number:0{digits}x}"


def _device_spec(entry: dict[str, Any]) -> DeviceSpec:
    given = dict(entry)
    vendor_id = _device_id("vendor_id", given.pop("vendor_id", ANY))
    product_id = _device_id("product_id", given.pop("product_id", ANY))
    address, devname = given.pop("address", None), given.pop("devname", None)
    if devname and address:
        raise ValueError("address and devname exclude each other: keep address")
    if devname:
        raise ValueError("devname means something on its own host only: use address")
    tags = {
        _named("the name of a tag", key): _tag(key, value)
        for key, value in given.items()
        if key not in _PLACEMENT_TAGS
    }
    return DeviceSpec(vendor_id, product_id, _address(address), tags)


def _device_id(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, hexadecimal digits in quotes")
    text = value.strip()
    return ANY if text == ANY else _hexadecimal(key, text, 4, 0xFFFF)


def _tag(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"{key} must be text or null")
    text = value if isinstance(value, str) else str(value).lower()
    return _boolean(key, text) if key in _BOOLEAN_TAGS else _labelled(key, text)


def _address(value: Any) -> Expressions:
    if value in (None, "", {}):
        return (_ANYTHING, _ANYTHING, _ANYTHING, _ANYTHING)
    if isinstance(value, str):
        return _glob(value)
    if isinstance(value, dict):
        return _expressions(value)
    raise ValueError("address must be text, or an object of regular expressions")


def _glob(text: str) -> Expressions:
    """Parse domain:bus:slot.function; parts that are missing on the left, or empty, match anything."""
    places, _, function = text.partition(".")
    left = places.split(":")
    if len(left) > 3:
        raise ValueError(f"address {_quoted(text)} must be domain:bus:slot.function")
    domain, bus, slot = [""] * (3 - len(left)) + left
    return (
        _exactly("domain", domain), _exactly("bus", bus), _exactly("slot", slot),
        _exactly("function", function),
    )  # fmt: skip


def _exactly(part: str, text: str) -> str:
    value = text.strip()
    return _ANYTHING if value in ("", ANY) else _hexadecimal(part, value, *_PARTS[part])


def _expressions(value: dict[str, Any]) -> Expressions:
    for part, expression in value.items():
        if part not in _PARTS:
            raise ValueError(f"address has no {_quoted(part)}, only {', '.join(_PARTS)}")
        if not isinstance(expression, str):
            raise ValueError(f"{part} of address must be text, a regular expression in quotes")
        try:
            re.compile(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{part} {_quoted(expression)} is no regular expression: {error}") from error
    domain, bus, slot, function = (value.get(part, _ANYTHING) for part in _PARTS)
    return (domain, bus, slot, function)


def _tagged(device: PciDevice, specs: tuple[DeviceSpec, ...]) -> PciDevice | None:
    address = _parts_of(device.address)
    if address is None:
        return None
    parent = None if device.parent_addr is None else _parts_of(device.parent_addr)
    for spec in specs:
        if _matches(spec, device, address, parent):
            tags = {**(device.tags or {}), **spec.tags}
            return replace(device, tags=tags) if tags else device
    return None


def _parts_of(address: str) -> Expressions | None:
    """Return the parts of an address, normalized as Nova compares them; None if Nova cannot parse it."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    try:
        domain, bus, slot, function = map(_exactly, _PARTS, found.groups())
    except ValueError:
        return None
    return (domain, bus, slot, function)


def _matches(spec: DeviceSpec, device: PciDevice, address: Expressions, parent: Expressions | None) -> bool:
    if spec.vendor_id not in (ANY, device.vendor_id.lower()):
        return False
    if spec.product_id not in (ANY, device.product_id.lower()):
        return False
    # A spec with the full address of a PF matches its VFs, too. Only a full address equals the parent's.
    if spec.address != parent and not all(map(re.match, spec.address, address)):
        return False
    if spec.tags.get(REMOTE_MANAGED) != "true":
        return True
    # Nova refuses to start if this spec has a PF's full address; with another address it does not check.
    is_named_pf = device.dev_type == PciDeviceType.PF and spec.address == address
    return _has_serial_number(device) and not is_named_pf


def _has_serial_number(device: PciDevice) -> bool:
    """The managing host identifies a device by its card's serial number; Nova ignores devices without one."""
    vpd = (device.capabilities or {}).get("vpd")
    return isinstance(vpd, dict) and bool(vpd.get("card_serial_number"))


def _alias(entry: dict[str, Any]) -> Alias:
    for key, value in entry.items():
        if key not in _ALIAS_KEYS:
            raise ValueError(f"unknown key {_quoted(key)}: there are {', '.join(_ALIAS_KEYS)}")
        if not isinstance(value, str):
            raise ValueError(f"{key} must be text, in quotes")
        choices = _ALIAS_CHOICES.get(key)
        if choices and value not in choices:
            raise ValueError(f"{key} {_quoted(value)} must be {' or '.join(choices)}")
    spec = _alias_spec(entry)
    if not ({"vendor_id", "product_id"} <= spec.keys() or "resource_class" in spec):
        raise ValueError("needs vendor_id and product_id, or resource_class")
    name = _named("name", entry.get("name", "").strip())
    return Alias(name, (spec,), PciNumaPolicy(entry.get("numa_policy", PciNumaPolicy.LEGACY)))


def _alias_spec(entry: dict[str, str]) -> dict[str, Scalar | list[Scalar]]:
    spec: dict[str, Scalar | list[Scalar]] = {}
    for key in ("vendor_id", "product_id"):
        if key in entry:
            if _ALIAS_ID.fullmatch(entry[key]) is None:
                raise ValueError(f"{key} {_quoted(entry[key])} must be four hexadecimal digits")
            spec[key] = entry[key].lower()
    if "device_type" in entry:
        spec["dev_type"] = entry["device_type"]
    if "live_migratable" in entry:
        spec["live_migratable"] = _boolean("live_migratable", entry["live_migratable"])
    return spec | {key: entry[key] for key in _PLACEMENT_TAGS if key in entry}


def _both(known: Alias, more: Alias) -> Alias:
    if known.numa_policy != more.numa_policy:
        raise ValueError(f"NUMA policy mismatch for alias '{known.name}'")
    if known.specs[0].get("dev_type") != more.specs[0].get("dev_type"):
        raise ValueError(f"Device type mismatch for alias '{known.name}'")
    return replace(known, specs=known.specs + more.specs)


def _request(asked: str, aliases: Mapping[str, Alias], policy: PciNumaPolicy | None) -> PciRequest:
    name, _, count = (text.strip() for text in asked.partition(":"))
    if not name or _COUNT.fullmatch(count) is None or int(count) > MAX_DEVICES:
        raise RequestRefused(
            f"{PCI_ALIAS} {_quoted(asked)} is not NAME:COUNT with a count from 0 to {MAX_DEVICES}"
        )
    if name not in aliases:
        raise RequestRefused(f"PCI alias {name[:100]} is not defined")
    alias = aliases[name]
    return PciRequest(
        count=int(count),
        spec=list(alias.specs),
        numa_policy=policy or alias.numa_policy,
        alias_name=name,
        source=RequestSource.ALIAS,
    )
