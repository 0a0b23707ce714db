# SPDX-License-Identifier: Apache-2.0
"""[pci] device_spec lets devices through and tags them; [pci] alias names what flavors ask for."""

import json
from typing import Any

import msgspec
import pytest

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.fields import PciNumaPolicy
from tracker_worker.domain.objects import PciDevice, PciRequests
from tracker_worker.domain.pci.specs import (
    MAX_DEVICES,
    MAX_REQUESTS,
    Alias,
    DeviceSpec,
    assignable,
    parse_aliases,
    parse_device_specs,
    requests_of,
)


def a_device(address: str = "0000:0a:00.1", **more: Any) -> PciDevice:
    fields = {"vendor_id": "8086", "product_id": "1515", "dev_type": "type-VF", **more}
    return PciDevice(address=address, **fields)


def a_spec(**entry: Any) -> DeviceSpec:
    (spec,) = parse_device_specs([json.dumps(entry)])
    return spec


def an_alias(**entry: Any) -> str:
    fields = {"name": "a1", "vendor_id": "8086", "product_id": "1515", **entry}
    return json.dumps({key: value for key, value in fields.items() if value is not None})


def lets_through(spec: DeviceSpec, device: PciDevice) -> bool:
    return bool(assignable([device], (spec,)))


def tags_of(device: PciDevice, *specs: DeviceSpec) -> dict[str, str | None] | None:
    ((tagged),) = assignable([device], specs)
    return tagged.tags


# What a device_spec says


def test_a_spec_that_says_nothing_is_any_device() -> None:
    assert a_spec() == DeviceSpec()
    assert lets_through(a_spec(), a_device())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("8086", "8086"), ("10DE", "10de"), ("71", "0071"), (" 8086 ", "8086"), ("0x8086", "8086"), ("*", "*")],
)
def test_ids_are_four_lower_case_digits(given: str, wanted: str) -> None:
    spec = a_spec(vendor_id=given, product_id=given)
    assert (spec.vendor_id, spec.product_id) == (wanted, wanted)


def test_a_value_is_one_object_or_a_list_of_them_and_keeps_its_order() -> None:
    specs = parse_device_specs(['[{"vendor_id": "1"}, {"vendor_id": "2"}]', '{"vendor_id": "3"}', "[]"])
    assert [spec.vendor_id for spec in specs] == ["0001", "0002", "0003"]
    assert parse_device_specs([]) == ()


def test_every_other_key_is_a_tag_but_those_of_placement() -> None:
    spec = a_spec(
        vendor_id="8086",
        address="*:0a:00.*",
        devname=None,
        physical_network=None,
        trusted=True,
        my_tag="Mine",
        number=7,
        ratio=0.5,
        resource_class="PGPU",
        traits="HW_GPU_API_VULKAN,my-gpu",
    )
    assert spec.tags == {
        "physical_network": None,
        "trusted": "true",
        "my_tag": "Mine",
        "number": "7",
        "ratio": "0.5",
    }


@pytest.mark.parametrize("tag", ["remote_managed", "live_migratable", "managed"])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [("True", "true"), ("yes", "true"), (" ON ", "true"), (1, "true"), (True, "true")]
    + [("False", "false"), ("no", "false"), (0, "false"), (False, "false"), (None, None)],
)
def test_a_tag_that_is_true_or_false_has_one_text_for_each(
    tag: str, given: str | int | None, wanted: str | None
) -> None:
    assert a_spec(**{tag: given}).tags == {tag: wanted}


# What an address matches


@pytest.mark.parametrize(
    "address",
    [
        "0000:0a:00.1", "0:a:0.1", "0000:0A:00.1", "*:0a:00.*", "*:0a:00.1", ":0a:00.", ":0a:00.1",
        "0a:00.", "0a:00.1", "0a:00", "00.1", "00.", "0", ".1", "*:*:*.*", ":::"[:2], ".", "",
        " 0000 : 0a : 00 . 1 ", {}, None,
        {"bus": "0a"}, {"bus": "0[ab]", "slot": "00", "function": "[0-2]"},
        {"domain": ".*", "bus": ".*", "slot": ".*", "function": ".*"},
        {"bus": "0"}, {"function": ""}, {"domain": "0000", "bus": "0a", "slot": "00", "function": "1"},
    ],
)  # fmt: skip
def test_an_address_matches(address: str | dict[str, str] | None) -> None:
    assert lets_through(a_spec(address=address), a_device("0000:0a:00.1"))


@pytest.mark.parametrize(
    "address",
    [
        "0001:0a:00.1", "0000:0b:00.1", "0000:0a:01.1", "0000:0a:00.2", "*:0b:00.*", ":0a:01.", "01.1",
        ".2", {"bus": "a"}, {"bus": "0[bc]"}, {"bus": "0A"}, {"function": "[2-7]"}, {"slot": "00 "},
    ],
)  # fmt: skip
def test_an_address_does_not_match(address: str | dict[str, str]) -> None:
    assert not lets_through(a_spec(address=address), a_device("0000:0a:00.1"))


def test_a_reported_address_is_compared_in_digits_of_one_width() -> None:
    assert lets_through(a_spec(address={"bus": "0a$", "domain": "0000"}), a_device("0:A:00.1"))


VF = a_device("0000:0a:02.1", parent_addr="0000:0A:00.0")


@pytest.mark.parametrize(
    "address",
    ["0000:0a:00.0", "0:a:0.0", {"domain": "0000", "bus": "0a", "slot": "00", "function": "0"}],
)
def test_the_full_address_of_a_parent_stands_for_its_children(address: str | dict[str, str]) -> None:
    assert lets_through(a_spec(address=address), VF)


@pytest.mark.parametrize(
    "address",
    ["*:0a:00.0", "0a:00.0", "0000:0a:00.*", "0000:0a:00.1", {"bus": "0a", "slot": "00"}],
)
def test_another_address_of_a_parent_does_not(address: str | dict[str, str]) -> None:
    assert not lets_through(a_spec(address=address), VF)


def test_an_unreadable_parent_is_no_parent() -> None:
    device = a_device("0000:0a:02.1", parent_addr="somewhere")
    assert not lets_through(a_spec(address="0000:0a:00.0"), device)
    assert lets_through(a_spec(address="0000:0a:02.1"), device)


@pytest.mark.parametrize(
    "address",
    ["10000:01:00.0", "0000:100:00.0", "0000:00:20.0", "0000:00:00.8", "00:00.0", "0000:00:00", "fast one"],
)
def test_a_device_whose_address_is_none_is_left_out_and_no_error(address: str) -> None:
    device = a_device(address)
    assert assignable([device, a_device()], (a_spec(),)) == [a_device()]
    assert assignable([device], ()) == [device]


# Which devices are let through


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"vendor_id": "8086"}, True),
        ({"product_id": "1515"}, True),
        ({"vendor_id": "8086", "product_id": "1515", "address": ":0a:00."}, True),
        ({"vendor_id": "10de"}, False),
        ({"product_id": "1528"}, False),
        ({"vendor_id": "8086", "product_id": "1528"}, False),
        ({"vendor_id": "8086", "address": ":0b:00."}, False),
    ],
)
def test_everything_that_a_spec_says_has_to_match(entry: dict[str, str], expected: bool) -> None:
    assert lets_through(a_spec(**entry), a_device()) is expected


def test_ids_match_in_any_case() -> None:
    device = a_device(vendor_id="10DE", product_id="1DB0")
    assert lets_through(a_spec(vendor_id="10de", product_id="1Db0"), device)


def test_without_specs_all_devices_are_as_reported() -> None:
    devices = [a_device(tags={"physical_network": "one"}), a_device("else", dev_type="type-PF")]
    assert assignable(devices, ()) == devices


def test_devices_keep_the_order_of_the_report() -> None:
    first, second, third = (a_device(f"0000:0a:00.{function}") for function in (3, 1, 2))
    specs = (a_spec(address=".2"), a_spec(address=".3"))
    assert assignable([first, second, third], specs) == [first, third]


def test_the_tags_of_the_first_spec_that_matches_count() -> None:
    specs = (
        a_spec(vendor_id="10de", physical_network="other"),
        a_spec(vendor_id="8086", physical_network="one"),
        a_spec(physical_network="two", trusted="true"),
    )
    assert tags_of(a_device(), *specs) == {"physical_network": "one"}


def test_the_tags_of_a_spec_go_before_those_of_the_device() -> None:
    device = a_device(tags={"parent_ifname": "ens1", "physical_network": "one", "remote_managed": "false"})
    assert tags_of(device, a_spec(physical_network=None, mine="1")) == {
        "parent_ifname": "ens1",
        "physical_network": None,
        "remote_managed": "false",
        "mine": "1",
    }
    tags = tags_of(device, a_spec(parent_ifname="ens2"))
    assert tags and tags["parent_ifname"] == "ens2"


def test_a_spec_without_tags_leaves_those_of_the_device() -> None:
    assert tags_of(a_device(), a_spec(vendor_id="8086")) is None
    assert tags_of(a_device(tags={"a": "b"}), a_spec(vendor_id="8086")) == {"a": "b"}


@pytest.mark.parametrize("specs", [(), (DeviceSpec(),)])
@pytest.mark.parametrize(("reported", "cell"), [(-1, None), (None, None), (0, 0), (1, 1)])
def test_a_cell_below_zero_is_none(
    specs: tuple[DeviceSpec, ...], reported: int | None, cell: int | None
) -> None:
    assert assignable([a_device(numa_node=reported)], specs) == [a_device(numa_node=cell)]


NUMBERED = {"vpd": {"card_serial_number": "MT2113X00000"}}


@pytest.mark.parametrize("dev_type", ["type-VF", "type-PCI", "vdpa"])
def test_a_card_with_a_serial_number_can_be_managed_remotely(dev_type: str) -> None:
    device = a_device(dev_type=dev_type, capabilities=NUMBERED)
    assert tags_of(device, a_spec(remote_managed="True")) == {"remote_managed": "true"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"capabilities": {}},
        {"capabilities": {"vpd": None}},
        {"capabilities": {"vpd": "text"}},
        {"capabilities": {"vpd": {}}},
        {"capabilities": {"vpd": {"card_serial_number": ""}}},
        {"capabilities": {"vpd": {"card_serial_number": None}}},
    ],
)
def test_device_whose_card_has_no_number_cannot_be_managed_remotely(more: dict[str, Any]) -> None:
    device = a_device(**more)
    assert not lets_through(a_spec(remote_managed="true"), device)
    assert lets_through(a_spec(remote_managed="false"), device)
    assert lets_through(a_spec(remote_managed=None), device)


@pytest.mark.parametrize("address", [None, "*:0a:00.*", "0000:0a:00", {"bus": "0a"}])
def test_physical_function_is_managed_remotely_unless_its_full_address_says_so(
    address: str | dict[str, str] | None,
) -> None:
    """Nova looks for a physical function at a full address only, and refuses to start with one."""
    device = a_device("0000:0a:00.0", dev_type="type-PF", capabilities=NUMBERED)
    assert lets_through(a_spec(remote_managed="true", address=address), device)
    assert not lets_through(a_spec(remote_managed="true", address=device.address), device)
    virtual = a_device(parent_addr=device.address, capabilities=NUMBERED)
    assert lets_through(a_spec(remote_managed="true", address=device.address), virtual)


# Wrong values of device_spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("{'vendor_id': '8086'}", "is no JSON"),
        ("[" * 5000, "is no JSON"),
        ('"8086"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('[["8086"]]', "must be a JSON object"),
        ('{"vendor_id": "80g6"}', "vendor_id '80g6' is neither hexadecimal nor *"),
        ('{"vendor_id": "-1"}', "vendor_id '-1' is neither hexadecimal nor *"),
        ('{"product_id": ""}', "product_id '' is neither hexadecimal nor *"),
        ('{"product_id": "10000"}', "product_id '10000' is above ffff"),
        ('{"vendor_id": 8086}', "vendor_id must be text"),
        ('{"vendor_id": null}', "vendor_id must be text"),
        ('{"product_id": ["1515"]}', "product_id must be text"),
        ('{"devname": "eth0"}', "use address"),
        ('{"devname": "eth0", "address": ":0a:00."}', "address and devname exclude each other"),
        ('{"address": "10000:00:00.0"}', "domain '10000' is above ffff"),
        ('{"address": "100:00.0"}', "bus '100' is above ff"),
        ('{"address": "20.0"}', "slot '20' is above 1f"),
        ('{"address": "00.8"}', "function '8' is above 7"),
        ('{"address": "0[ab]:00.0"}', "bus '0[ab]' is neither hexadecimal nor *"),
        ('{"address": "00.1.2"}', "function '1.2' is neither hexadecimal nor *"),
        ('{"address": "0:0:0:0.0"}', "must be domain:bus:slot.function"),
        ('{"address": 10}', "address must be text, or an object"),
        ('{"address": []}', "address must be text, or an object"),
        ('{"address": {"func": "0"}}', "address has no 'func', only domain, bus, slot, function"),
        ('{"address": {"bus": 10}}', "bus of address must be text"),
        ('{"address": {"bus": "0["}}', "bus '0[' is no regular expression"),
        ('{"address": {"bus": "a{99999999999}"}}', "is no regular expression"),
        ('{"trusted": {}}', "trusted must be text or null"),
        ('{"trusted": ["true"]}', "trusted must be text or null"),
        ('{"physical_network": "a\\u0000b"}', "physical_network must be up to 255 printable"),
        ('{"": "x"}', "the name of a tag must be 1 to 255 printable"),
        ('{"remote_managed": "maybe"}', "remote_managed 'maybe' must be true or false"),
        ('{"live_migratable": 2}', "live_migratable '2' must be true or false"),
        ('{"managed": ""}', "managed '' must be true or false"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_option_the_entry_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^\[pci\] device_spec ") as refused:
        parse_device_specs(['{"vendor_id": "8086"}', text])
    assert reason in str(refused.value)
    assert text[:90] in str(refused.value).replace("\\\\", "\\").replace("\\'", "'")


def test_a_long_spec_is_cut_in_the_error() -> None:
    with pytest.raises(ValueError, match="vendor_id") as refused:
        parse_device_specs([json.dumps({"long": "x" * 200, "vendor_id": "y" * 2000})])
    assert len(str(refused.value)) < 400


def test_a_tag_that_could_not_be_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="physical_network must be up to 255"):
        a_spec(physical_network="x" * 256)
    assert a_spec(physical_network="x" * 255).tags["physical_network"]


def test_physical_network_may_be_empty() -> None:
    tags = tags_of(a_device(), a_spec(physical_network=""))
    assert tags and tags["physical_network"] == ""


def test_devices_with_tags_are_valid_devices() -> None:
    (device,) = assignable([a_device()], (a_spec(physical_network=None, trusted=True),))
    assert msgspec.json.decode(msgspec.json.encode(device), type=PciDevice) == device


# Aliases


def test_an_alias_becomes_what_a_request_has() -> None:
    text = an_alias(
        vendor_id="10DE",
        product_id="1DB0",
        capability_type="pci",
        device_type="type-PF",
        numa_policy="required",
        live_migratable="Yes",
        resource_class="CUSTOM_GPU",
        traits="A,B",
    )
    spec: dict[str, Any] = {
        "vendor_id": "10de",
        "product_id": "1db0",
        "dev_type": "type-PF",
        "live_migratable": "true",
        "resource_class": "CUSTOM_GPU",
        "traits": "A,B",
    }
    assert parse_aliases([text]) == {"a1": Alias("a1", (spec,), PciNumaPolicy.REQUIRED)}


def test_an_alias_needs_little() -> None:
    ids: dict[str, Any] = {"vendor_id": "8086", "product_id": "1515"}
    assert parse_aliases([an_alias()]) == {"a1": Alias("a1", (ids,), PciNumaPolicy.LEGACY)}
    by_class = an_alias(vendor_id=None, product_id=None, resource_class="CUSTOM_GPU")
    assert parse_aliases([by_class])["a1"].specs == ({"resource_class": "CUSTOM_GPU"},)
    assert parse_aliases([]) == {}


@pytest.mark.parametrize("policy", ["required", "preferred", "legacy", "socket"])
def test_an_alias_has_one_of_four_numa_policies(policy: str) -> None:
    assert parse_aliases([an_alias(numa_policy=policy)])["a1"].numa_policy == policy


@pytest.mark.parametrize(
    ("given", "wanted"), [("1", "true"), ("T", "true"), ("on", "true"), ("0", "false"), ("No", "false")]
)
def test_live_migratable_has_one_text_for_true_and_one_for_false(given: str, wanted: str) -> None:
    (spec,) = parse_aliases([an_alias(live_migratable=given)])["a1"].specs
    assert spec["live_migratable"] == wanted


def test_aliases_of_one_name_are_alternatives_in_their_order() -> None:
    aliases = parse_aliases(
        [an_alias(), an_alias(name="other"), an_alias(name=" a1 ", product_id="1528", numa_policy="legacy")]
    )
    assert [spec["product_id"] for spec in aliases["a1"].specs] == ["1515", "1528"]
    assert len(aliases["other"].specs) == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"numa_policy": "required"}, "NUMA policy mismatch for alias 'a1'"),
        ({"device_type": "type-PF"}, "Device type mismatch for alias 'a1'"),
    ],
)
def test_aliases_of_one_name_that_differ_are_refused(more: dict[str, str], reason: str) -> None:
    for texts in ([an_alias(), an_alias(**more)], [an_alias(**more), an_alias()]):
        with pytest.raises(ValueError, match=reason):
            parse_aliases(texts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON"),
        ("[]", "must be a JSON object; repeat the option"),
        (f"[{an_alias()}]", "must be a JSON object; repeat the option"),
        (an_alias(name=""), "name must be 1 to 255"),
        (an_alias(name="  "), "name must be 1 to 255"),
        (an_alias(name="x" * 256), "name must be 1 to 255"),
        (an_alias(name=None), "name must be 1 to 255"),
        (an_alias(name=7), "name must be text"),
        (an_alias(device_id="1515"), "unknown key 'device_id': there are name,"),
        (an_alias(capability_type="usb"), "capability_type 'usb' must be pci"),
        (an_alias(device_type="vdpa"), "device_type 'vdpa' must be type-PCI or type-PF or type-VF"),
        (an_alias(device_type=""), "device_type '' must be"),
        (an_alias(numa_policy="strict"), "numa_policy 'strict' must be required or preferred"),
        (an_alias(vendor_id="086"), "vendor_id '086' must be four hexadecimal digits"),
        (an_alias(vendor_id="*"), "vendor_id '*' must be four hexadecimal digits"),
        (an_alias(product_id="0x1515"), "product_id '0x1515' must be four"),
        (an_alias(product_id="1515\n"), "product_id '1515\\n' must be four"),
        (an_alias(product_id=1515), "product_id must be text"),
        (an_alias(live_migratable="maybe"), "live_migratable 'maybe' must be true or false"),
        (an_alias(live_migratable=True), "live_migratable must be text"),
        (an_alias(product_id=None), "needs vendor_id and product_id, or resource_class"),
        (an_alias(vendor_id=None), "needs vendor_id and product_id, or resource_class"),
        (an_alias(vendor_id=None, product_id=None, traits="A"), "needs vendor_id and product_id, or"),
    ],
)
def test_a_wrong_alias_is_refused_with_the_option_the_entry_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^\[pci\] alias ") as refused:
        parse_aliases([an_alias(name="fine"), text])
    assert reason in str(refused.value)


# What a flavor asks for


ALIASES = parse_aliases(
    [
        an_alias(),
        an_alias(product_id="1528"),
        an_alias(name="b", device_type="type-PF", numa_policy="required"),
        an_alias(name="two words"),
    ]
)


def test_a_flavor_asks_by_names_and_counts() -> None:
    first, second = requests_of("a1:2, b : 1 ", ALIASES)
    assert (first.alias_name, first.count, first.numa_policy) == ("a1", 2, "legacy")
    assert first.spec == list(ALIASES["a1"].specs)
    assert len(first.spec) == 2
    assert (second.alias_name, second.count, second.numa_policy) == ("b", 1, "required")
    assert {request.source for request in (first, second)} == {"flavor_alias"}
    assert {request.request_id for request in (first, second)} == {None}


def test_none_of_an_alias_may_be_asked_for() -> None:
    (request,) = requests_of("a1:0", ALIASES)
    assert request.count == 0


def test_a_name_may_come_twice_and_have_spaces() -> None:
    requests = requests_of("two words:1,b:1,two words:3", ALIASES)
    assert [(each.alias_name, each.count) for each in requests] == [
        ("two words", 1),
        ("b", 1),
        ("two words", 3),
    ]


@pytest.mark.parametrize("policy", ["required", "preferred", "legacy", "socket"])
def test_the_policy_of_a_flavor_goes_before_that_of_an_alias(policy: str) -> None:
    assert {each.numa_policy for each in requests_of("a1:1,b:1", ALIASES, policy)} == {policy}


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(RequestRefused, match="Invalid PCI NUMA affinity configured: strict"):
        requests_of("a1:1", ALIASES, "strict")


@pytest.mark.parametrize("text", ["x:1", "a1:1,x:1", "A1:1", "x:1,a1"])
def test_an_alias_that_nobody_configured_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match=r"^PCI alias (x|A1) is not defined$"):
        requests_of(text, ALIASES)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a1", "a1:", ":1", "a1:-1", "a1:+1", "a1:1.5", "a1:one", "a1:1:1", "a1:1,",
        "a1:1;b:1", "a1:4097", "a1:10000", "a1:" + "9" * 5000, "a1:٢",
    ],
)  # fmt: skip
def test_a_text_without_a_count_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match=r"is not NAME:COUNT with a count from 0 to 4096") as refused:
        requests_of(text, ALIASES)
    assert len(str(refused.value)) < 250


def test_counts_and_requests_have_bounds() -> None:
    assert requests_of(f"a1:{MAX_DEVICES}", ALIASES)[0].count == MAX_DEVICES
    assert requests_of("a1:0004", ALIASES)[0].count == 4
    assert len(requests_of(",".join(["a1:1"] * MAX_REQUESTS), ALIASES)) == MAX_REQUESTS
    with pytest.raises(RequestRefused, match="names more than 1024 aliases"):
        requests_of(",".join(["a1:1"] * (MAX_REQUESTS + 1)), ALIASES)


def test_requests_are_valid_requests() -> None:
    requests = list(requests_of(f"a1:{MAX_DEVICES},b:1", ALIASES))
    assert msgspec.json.decode(msgspec.json.encode(requests), type=PciRequests) == requests


def test_an_undefined_name_is_cut_in_the_reason() -> None:
    with pytest.raises(RequestRefused) as refused:
        requests_of("x" * 5000 + ":1", ALIASES)
    assert len(str(refused.value)) < 150
