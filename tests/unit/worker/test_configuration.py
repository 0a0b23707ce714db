# SPDX-License-Identifier: Apache-2.0
"""Options become settings: none is forgotten on the way."""

from collections.abc import Iterator
from typing import Any

# oslo.service binds its threading model when oslo.messaging is first imported; the commands choose it.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import pytest
from oslo_config import cfg

from tracker_worker.conf import opts
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.configuration import tracker_settings
from tracker_worker.worker.settings import Retention

VALUES: dict[str, tuple[str, Any]] = {
    "capacity_check": ("tracker", "none"),
    "reserved_host_memory_mb": ("tracker", 1),
    "reserved_host_disk_mb": ("tracker", 2),
    "reserved_host_cpus": ("tracker", 3),
    "cpu_allocation_ratio": ("tracker", 5.0),
    "ram_allocation_ratio": ("tracker", 6.0),
    "disk_allocation_ratio": ("tracker", 7.0),
    "reserved_huge_pages": ("tracker", [{"node": "0", "size": "2048", "count": "8"}]),
    "packing_host_numa_cells_allocation_strategy": ("tracker", True),
    "device_specs": ("pci", ['{"vendor_id": "8086"}']),
    "aliases": ("pci", ['{"name": "qat", "vendor_id": "8086", "product_id": "0442"}']),
}
"""Values other than the defaults, by field, with the group of their options."""
OPTIONS = {"device_specs": "device_spec", "aliases": "alias"}
"""Options that are not named as their field."""


@pytest.fixture
def conf() -> Iterator[cfg.ConfigOpts]:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    yield conf
    for field, (group, _) in VALUES.items():  # The groups, which hold the values, are the project's.
        conf.clear_override(OPTIONS.get(field, field), group)


@pytest.mark.parametrize("field", TrackerSettings.__struct_fields__)
def test_option_of_the_rules_reaches_the_settings(conf: cfg.ConfigOpts, field: str) -> None:
    group, value = VALUES[field]
    conf.set_override(OPTIONS.get(field, field), value, group)
    settings, default = tracker_settings(conf.tracker, conf.pci), TrackerSettings()
    changed = [
        name for name in settings.__struct_fields__ if getattr(settings, name) != getattr(default, name)
    ]
    assert changed == [field]


def test_every_option_of_the_rules_is_a_field(conf: cfg.ConfigOpts) -> None:
    options = {OPTIONS.get(field, field) for field in TrackerSettings.__struct_fields__}
    assert options == {*conf.tracker, *conf.pci} - set(Retention.__struct_fields__)
