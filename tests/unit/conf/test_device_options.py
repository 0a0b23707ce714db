# SPDX-License-Identifier: Apache-2.0
"""The options of devices and pages come from a file as the domain reads them."""

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tracker_worker.conf import opts
from tracker_worker.domain.numa.pages import parse_reserved_pages
from tracker_worker.domain.objects import ReservedPages
from tracker_worker.domain.pci.specs import parse_aliases, parse_device_specs


def a_configuration(tmp_path: Path, text: str) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    file = tmp_path / "test.conf"
    file.write_text(text)
    conf([], default_config_files=[str(file)], project="test")
    return conf


def examples_in(option: cfg.Opt) -> list[str]:
    """The lines of a file that the help of an option shows."""
    indent = " " * 4
    assert option.help is not None
    lines = [line.removeprefix(indent) for line in option.help.splitlines() if line.startswith(indent)]
    assert lines[0].startswith(f"{option.name} = ")
    return lines


def an_option(group: str, name: str) -> cfg.Opt:
    options = {each.name: (where, found) for where, found in opts.list_opts() for each in found}
    where, found = options[name]
    assert isinstance(where, cfg.OptGroup)
    assert where.name == group
    return next(option for option in found if option.name == name)


def test_nothing_is_configured_by_default(tmp_path: Path) -> None:
    conf = a_configuration(tmp_path, "")
    assert parse_device_specs(conf.pci.device_spec) == ()
    assert parse_aliases(conf.pci.alias) == {}
    assert parse_reserved_pages(conf.tracker.reserved_huge_pages) == ()
    assert conf.tracker.packing_host_numa_cells_allocation_strategy is False


@pytest.mark.parametrize(
    ("group", "name", "parse", "count"),
    [
        ("pci", "device_spec", parse_device_specs, 6),
        ("pci", "alias", parse_aliases, 2),
        ("tracker", "reserved_huge_pages", parse_reserved_pages, 2),
    ],
)
def test_the_examples_of_the_help_can_be_used(
    tmp_path: Path, group: str, name: str, parse: Callable[[Any], Sized], count: int
) -> None:
    examples = examples_in(an_option(group, name))
    conf = a_configuration(tmp_path, f"[{group}]\n" + "\n".join(examples))
    assert len(parse(conf[group][name])) == count


def test_a_regular_expression_comes_through_the_file(tmp_path: Path) -> None:
    text = '[pci]\ndevice_spec = {"address": {"bus": "^0[ab]$", "slot": "(00|1f)"}}\n'
    (spec,) = parse_device_specs(a_configuration(tmp_path, text).pci.device_spec)
    assert spec.address == (".*", "^0[ab]$", "(00|1f)", ".*")


def test_pages_may_have_a_unit(tmp_path: Path) -> None:
    values = ["node:0, size:2048, count:64", "node:1,size:1GB,count:1"]
    text = "[tracker]\n" + "".join(f"reserved_huge_pages = {value}\n" for value in values)
    assert parse_reserved_pages(a_configuration(tmp_path, text).tracker.reserved_huge_pages) == (
        ReservedPages(node=0, size_kb=2048, count=64),
        ReservedPages(node=1, size_kb=1048576, count=1),
    )


@pytest.mark.parametrize("value", ["64", "node:0,size", "node:0,node:1"])
def test_pages_that_are_no_keys_and_values_are_refused(tmp_path: Path, value: str) -> None:
    conf = a_configuration(tmp_path, f"[tracker]\nreserved_huge_pages = {value}\n")
    with pytest.raises(cfg.ConfigFileValueError, match="reserved_huge_pages"):
        _ = conf.tracker.reserved_huge_pages


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_packing_is_true_or_false(tmp_path: Path, value: str) -> None:
    text = f"[tracker]\npacking_host_numa_cells_allocation_strategy = {value}\n"
    with pytest.raises(cfg.ConfigFileValueError, match="packing_host_numa_cells_allocation_strategy"):
        _ = a_configuration(tmp_path, text).tracker.packing_host_numa_cells_allocation_strategy
