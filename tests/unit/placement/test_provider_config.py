# SPDX-License-Identifier: Apache-2.0
"""Nova's provider configuration files: what they may have, and what they add to the providers of a node."""

from pathlib import Path

import pytest

from tracker_worker.placement.errors import DesiredStateInvalid
from tracker_worker.placement.provider_config import NO_CONFIGS, ProviderConfigs, merge, parse
from tracker_worker.placement.provider_config_files import read_provider_configs
from tracker_worker.placement.records import Inventory, Provider

NODE, UUID, CHILD = "node-1", "aaaaaaaa-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PROVIDERS = (
    Provider(UUID, NODE, None, {"VCPU": Inventory(8)}, frozenset({"COMPUTE_NODE"})),
    Provider(CHILD, "gpu", UUID, {}, frozenset()),
)
META = "meta: {schema_version: '1.0'}\n"


def a_file(*providers: str) -> str:
    return META + "providers:\n" + "".join(f"- {each}\n" for each in providers)


def entry(identification: str, inventories: str = "", traits: str = "CUSTOM_A") -> str:
    classes = f", inventories: {{additional: [{inventories}]}}" if inventories else ""
    return f"{{identification: {{{identification}}}, traits: {{additional: [{traits}]}}{classes}}}"


def added(*entries: str) -> tuple[Provider, ...]:
    return merge(PROVIDERS, parse({"a.yaml": a_file(*entries)}))


def refusal(text: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse({"a.yaml": text})
    return str(caught.value)


def test_example_of_novas_documentation_is_read() -> None:
    text = """
meta:
  schema_version: '1.0'
providers:
  # for all compute nodes that no file names
  - identification:
      uuid: '$COMPUTE_NODE'
    inventories:
      additional:
        - CUSTOM_EXAMPLE_RESOURCE_CLASS:
            total: 100
            reserved: 0
            min_unit: 1
            max_unit: 10
            step_size: 1
            allocation_ratio: 1.0
    traits:
      additional:
        - 'CUSTOM_EXAMPLE_TRAIT'
"""
    root, child = merge(PROVIDERS, parse({"a.yaml": text}))
    assert root.inventories == {
        "VCPU": Inventory(8),
        "CUSTOM_EXAMPLE_RESOURCE_CLASS": Inventory(100, max_unit=10),
    }
    assert root.traits == {"COMPUTE_NODE", "CUSTOM_EXAMPLE_TRAIT", "OWNER_NOVA"}
    assert child == PROVIDERS[1]


@pytest.mark.parametrize("identification", ["name: gpu", f"uuid: {CHILD}"])
def test_provider_below_a_node_is_named_or_identified(identification: str) -> None:
    root, child = added(entry(identification, "{CUSTOM_X: {total: 2}}, {CUSTOM_Y: {total: 3}}"))
    assert root == PROVIDERS[0]
    assert child.inventories == {"CUSTOM_X": Inventory(2), "CUSTOM_Y": Inventory(3)}
    assert child.traits == {"CUSTOM_A", "OWNER_NOVA"}


@pytest.mark.parametrize("identification", [f"name: {NODE}", f"uuid: {UUID}", f"uuid: {UUID.upper()}"])
def test_entry_of_a_node_takes_the_place_of_the_one_for_all(identification: str) -> None:
    root, _ = added(
        entry("uuid: $COMPUTE_NODE", traits="CUSTOM_ALL"), entry(identification, traits="CUSTOM_ONE")
    )
    assert root.traits == {"COMPUTE_NODE", "CUSTOM_ONE", "OWNER_NOVA"}


def test_entry_of_another_node_adds_nothing() -> None:
    assert added(entry("name: node-2")) == PROVIDERS


def test_ironic_node_that_is_named_by_its_uuid_is_configured_once() -> None:
    ironic = (Provider(UUID, UUID, None, {}, frozenset()),)
    (root,) = merge(ironic, parse({"a.yaml": a_file(entry(f"uuid: {UUID}"))}))
    assert root.traits == {"CUSTOM_A", "OWNER_NOVA"}


def test_later_group_of_a_file_takes_precedence() -> None:
    root, _ = added(entry(f"name: {NODE}", "{CUSTOM_X: {total: 2}}, {CUSTOM_X: {total: 3}}"))
    assert root.inventories["CUSTOM_X"] == Inventory(3)


def test_class_that_the_report_has_is_refused_with_the_file() -> None:
    configs = parse({"dir/a.yaml": a_file(entry("name: gpu", "{CUSTOM_X: {total: 2}}"))})
    providers = (PROVIDERS[0], Provider(CHILD, "gpu", UUID, {"CUSTOM_X": Inventory(1)}, frozenset()))
    with pytest.raises(DesiredStateInvalid) as caught:
        merge(providers, configs)
    assert str(caught.value) == (
        "node node-1: provider gpu: inventories.CUSTOM_X: the node's report has this class: "
        "remove it from dir/a.yaml"
    )


def test_trait_that_the_report_has_is_no_conflict() -> None:
    providers = (Provider(UUID, NODE, None, {}, frozenset({"CUSTOM_A"})),)
    (root,) = merge(providers, parse({"a.yaml": a_file(entry(f"name: {NODE}"))}))
    assert root.traits == {"CUSTOM_A", "OWNER_NOVA"}


def test_provider_configured_by_its_name_and_its_uuid_is_refused() -> None:
    configs = parse({"a.yaml": a_file(entry(f"name: {NODE}")), "b.yaml": a_file(entry(f"uuid: {UUID}"))})
    with pytest.raises(
        DesiredStateInvalid, match=rf"by its name and by its uuid, {UUID}, in a.yaml and b.yaml"
    ):
        merge(PROVIDERS, configs)


def test_same_provider_in_two_files_is_refused() -> None:
    text = a_file(entry(f"name: {NODE}"))
    with pytest.raises(
        ValueError, match="b.yaml: providers.0.: node-1 is configured twice, in a.yaml and b.yaml"
    ):
        parse({"b.yaml": text, "a.yaml": text})


@pytest.mark.parametrize("providers", ["", "providers: []\n"])
def test_file_without_a_provider_adds_nothing(providers: str) -> None:
    assert parse({"a.yaml": META + providers}) == NO_CONFIGS == parse({})


def test_entry_that_adds_nothing_is_warned_of() -> None:
    configs = parse({"a.yaml": a_file(entry(f"name: {NODE}", traits=""))})
    assert configs == ProviderConfigs({}, ("a.yaml: providers[0]: node-1 gets no inventory and no trait",))


def test_newer_minor_version_is_read_with_a_warning_and_without_what_is_new() -> None:
    text = a_file(entry(f"name: {NODE}").replace("{identification", "{new: 1, identification"))
    configs = parse({"a.yaml": text.replace("1.0", "1.7")})
    assert configs.additions.keys() == {NODE}
    assert configs.warnings == (
        "a.yaml: meta.schema_version: this worker knows version 1.0, newer keys are ignored",
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "meta.schema_version: must be a text, such as '1.0' in quotes"),
        ("- 1", "meta.schema_version: must be a text, such as '1.0' in quotes"),
        ("meta: {}", "meta.schema_version: must be a text, such as '1.0' in quotes"),
        ("meta: {schema_version: 1.0}", "meta.schema_version: must be a text, such as '1.0' in quotes"),
        ("meta: {schema_version: '2.0'}", "meta.schema_version: must be a text, such as '1.0' in quotes"),
        (META + "providers: 1", "providers: Expected `array`, got `int`"),
        (a_file("{}"), "providers[0]: Object missing required field `identification`"),
        (a_file(entry("")), "providers[0].identification: Expected exactly one of uuid and name"),
        (
            a_file(entry(f"name: a, uuid: {UUID}")),
            "providers[0].identification: Expected exactly one of uuid and name",
        ),
        (a_file(entry("host: a")), "providers[0].identification: Object contains unknown field `host`"),
        (a_file(entry("name: 1")), "providers[0].identification.name: Expected `str | null`, got `int`"),
        (
            a_file(entry(f"name: {'n' * 201}")),
            "providers[0].identification.name: Expected `str` of length <= 200",
        ),
        (
            a_file(entry("uuid: $compute_node")),
            "providers[0].identification: Expected uuid to be a uuid or $COMPUTE_NODE",
        ),
        (
            a_file(entry("name: a", traits="CUSTOM_A, HW_CPU_X86_VMX")),
            "providers[0].traits.additional[1]: HW_CPU_X86_VMX does not begin with CUSTOM_: "
            "files add custom ones only",
        ),
        (
            a_file(entry("name: a", traits="custom_a")),
            "providers[0].traits.additional[0]: names of resource classes and traits have 1 to 255 of "
            "A-Z, 0-9 and _, after CUSTOM_ too",
        ),
        (
            a_file(entry("name: a", traits="7")),
            "providers[0].traits.additional[0]: Expected `str`, got `int`",
        ),
        (
            a_file(entry("name: a", "{VCPU: {total: 1}}")),
            "providers[0].inventories.additional[0].VCPU: VCPU does not begin with CUSTOM_: "
            "files add custom ones only",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: {reserved: 1}}")),
            "providers[0].inventories.additional[0].CUSTOM_X: Object missing required field `total`",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: 1}")),
            "providers[0].inventories.additional[0].CUSTOM_X: Expected `object`, got `int`",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_A: {total: 1}}, {CUSTOM_X: {total: '1'}}")),
            "providers[0].inventories.additional[1].CUSTOM_X.total: Expected `int`, got `str`",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: {total: true}}")),
            "providers[0].inventories.additional[0].CUSTOM_X.total: Expected `int`, got `bool`",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: {total: 0}}")),
            "providers[0].inventories.additional[0].CUSTOM_X.total: 0 is not within 1 to 2147483647",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: {total: 1, totl: 1}}")),
            "providers[0].inventories.additional[0].CUSTOM_X.totl: an inventory has total, reserved, "
            "min_unit, max_unit, step_size, allocation_ratio only",
        ),
        (
            a_file(entry("name: a", "{CUSTOM_X: {total: 1, allocation_ratio: .nan}}")),
            "providers[0].inventories.additional[0].CUSTOM_X.allocation_ratio: nan is not within "
            "0 to 3.40282e+38",
        ),
    ],
)
def test_wrong_file_is_refused_with_its_name_and_the_key(text: str, error: str) -> None:
    assert refusal(text) == f"a.yaml: {error}"


@pytest.mark.parametrize("text", ["meta: [", "meta: {schema_version: 2026-13-45}", "\x00", "a: *b"])
def test_file_that_is_not_yaml_is_refused_with_its_name_in_one_line(text: str) -> None:
    error = refusal(text)
    assert error.startswith("a.yaml: not YAML: ")
    assert "\n" not in error


def test_files_of_a_directory_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(a_file(entry("name: node-2")))
    (tmp_path / "a.yaml").write_text(a_file(entry("name: node-1")))
    (tmp_path / "c.yml").write_text("not read")
    (tmp_path / ".a.yaml").write_text("not read")
    configs = read_provider_configs(tmp_path)
    assert {key: each.source for key, each in configs.additions.items()} == {
        "node-1": f"{tmp_path}/a.yaml",
        "node-2": f"{tmp_path}/b.yaml",
    }


def test_directory_without_a_file_adds_nothing(tmp_path: Path) -> None:
    assert read_provider_configs(tmp_path) == NO_CONFIGS


def test_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A mistyped path would take custom inventories away from all nodes."""
    with pytest.raises(ValueError, match="absent: No such file or directory"):
        read_provider_configs(tmp_path / "absent")


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(ValueError, match="a.yaml: Is a directory"):
        read_provider_configs(tmp_path)
    (tmp_path / "a.yaml").rmdir()
    (tmp_path / "a.yaml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="a.yaml: not UTF-8"):
        read_provider_configs(tmp_path)
