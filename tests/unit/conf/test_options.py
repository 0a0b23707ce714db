# SPDX-License-Identifier: Apache-2.0
"""Every option is typed, ranged and explained; what excludes each other is refused with a clear error."""

from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg, types
from oslo_db import options as db_options

from tracker_worker.conf import opts
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.configuration import settings_from
from tracker_worker.worker.health import HealthSettings
from tracker_worker.worker.settings import WorkerSettings

ALL = [(group, option) for group, options in opts.list_opts() for option in options]
NUMBERS = [(group, option) for group, option in ALL if isinstance(option, cfg.IntOpt | cfg.FloatOpt)]


def name(value: Any) -> str:
    shown: str = getattr(value, "name", value) if not isinstance(value, tuple) else value[1].name
    return shown


def section_of(group: str | cfg.OptGroup) -> str:
    return group if isinstance(group, str) else group.name


def a_configuration(tmp_path: Path, text: str = "") -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    opts.set_defaults()
    db_options.set_defaults(conf)
    # These register the options that oslo.messaging has for them.
    oslo_messaging.get_rpc_transport(conf, url="fake://")
    oslo_messaging.get_notification_transport(conf, url="fake://")
    file = tmp_path / "test.conf"
    file.write_text(text)
    conf([], default_config_files=[str(file)], project="test")
    return conf


def given(group: str | cfg.OptGroup, option: cfg.Opt, value: float | str) -> str:
    return f"[{section_of(group)}]\n{option.name} = {value}\n"


@pytest.mark.parametrize(("group", "option"), ALL, ids=name)
def test_an_option_says_what_it_does_and_when_to_change_it(
    group: str | cfg.OptGroup, option: cfg.Opt
) -> None:
    assert option.help is not None
    first, *rest = option.help.strip().split("\n\n")
    assert first.endswith(".")
    assert rest, "a paragraph about when to change it"


@pytest.mark.parametrize(("group", "option"), NUMBERS, ids=name)
def test_a_number_has_closed_bounds_and_is_refused_outside_them(
    tmp_path: Path, group: cfg.OptGroup, option: cfg.IntOpt | cfg.FloatOpt
) -> None:
    kind = option.type
    assert isinstance(kind, types.Number)
    assert kind.min is not None
    assert kind.max is not None
    assert kind.min <= option.default <= kind.max
    section = section_of(group)
    for bound in (kind.min, kind.max):
        conf = a_configuration(tmp_path, given(group, option, bound))
        assert conf[section][option.name] == bound
    for value in (kind.min - 1, kind.max + 1, "many"):
        with pytest.raises(cfg.ConfigFileValueError, match=option.name):
            a_configuration(tmp_path, given(group, option, value))[section][option.name]


@pytest.mark.parametrize(("group", "option"), NUMBERS, ids=name)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(
    tmp_path: Path, group: cfg.OptGroup, option: cfg.IntOpt | cfg.FloatOpt, value: str
) -> None:
    conf = a_configuration(tmp_path, given(group, option, value))
    with pytest.raises(cfg.ConfigFileValueError, match=option.name):
        conf[section_of(group)][option.name]


@pytest.mark.parametrize(
    ("value", "numbers"), [("0-7", [*range(8)]), ("3", [3]), ("5-5", [5]), ("0-1, 6", [0, 1, 6])]
)
def test_partitions_are_numbers_and_ranges(tmp_path: Path, value: str, numbers: list[int]) -> None:
    conf = a_configuration(tmp_path, f"[worker]\npartitions = {value}\n")
    assert sorted(settings_from(conf).preferred_partitions) == numbers


@pytest.mark.parametrize("value", ["7-0", "1, 3-2"])
def test_descending_range_of_partitions_is_refused_with_the_ascending_one(tmp_path: Path, value: str) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match=r"write (0-7|2-3)"):
        _ = a_configuration(tmp_path, f"[worker]\npartitions = {value}\n").worker.partitions


@pytest.mark.parametrize("value", ["-3", "7-", "a-b", "0-1024", "1024"])
def test_partitions_that_are_no_numbers_in_range_are_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match="partitions"):
        _ = a_configuration(tmp_path, f"[worker]\npartitions = {value}\n").worker.partitions


def test_a_capacity_check_is_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match="capacity_check"):
        _ = a_configuration(tmp_path, "[tracker]\ncapacity_check = strict\n").tracker.capacity_check


@pytest.mark.parametrize(
    ("group", "option"),
    [("bus", "exchange"), ("notifications", "exchange"), ("notifications", "topic")],
)
@pytest.mark.parametrize("value", ["two words", "a/b", "größe", "x" * 128, "semi;colon", ""])
def test_a_name_on_the_bus_is_refused_when_it_cannot_be_one(
    tmp_path: Path, group: str, option: str, value: str
) -> None:
    conf = a_configuration(tmp_path, f"[{group}]\n{option} = {value}\n")
    with pytest.raises(cfg.ConfigFileValueError, match=option):
        conf[group][option]


def test_the_defaults_of_the_options_are_those_of_the_settings(tmp_path: Path) -> None:
    settings = settings_from(a_configuration(tmp_path))
    assert settings == WorkerSettings(host=settings.host)


def test_every_rule_of_the_ledger_can_be_configured(tmp_path: Path) -> None:
    text = """
[tracker]
capacity_check = capacity
reserved_host_memory_mb = 1
reserved_host_disk_mb = 2
reserved_host_cpus = 3
cpu_allocation_ratio = 1.25
ram_allocation_ratio = 1.5
disk_allocation_ratio = 1.75
"""
    assert settings_from(a_configuration(tmp_path, text)).tracker == TrackerSettings(
        capacity_check="capacity",
        reserved_host_memory_mb=1,
        reserved_host_disk_mb=2,
        reserved_host_cpus=3,
        cpu_allocation_ratio=1.25,
        ram_allocation_ratio=1.5,
        disk_allocation_ratio=1.75,
    )


def test_every_bound_of_a_worker_can_be_configured(tmp_path: Path) -> None:
    text = """
[worker]
batch_size = 5
batch_bytes = 2048
prefetch = 6
memory_budget = 3
max_attempts = 7
graceful_shutdown_timeout = 8
[bus]
exchange = other
partitions = 9
[notifications]
exchange = neutron
topic = more
window = 10
[health]
port = 9281
host = ::1
stall_limit = 11
outbox_age_limit = 12
slow_event = 1.5
"""
    settings = settings_from(a_configuration(tmp_path, text))
    assert settings.health == HealthSettings(9281, "::1", 11, 12)
    lane = settings.lane
    assert lane.slow_event == 1.5
    assert (lane.batch_size, lane.batch_bytes, lane.prefetch, lane.max_attempts) == (5, 2048, 6, 7)
    assert settings.memory_budget == 3 * 1024 * 1024
    assert settings.graceful_shutdown_timeout == 8
    assert (settings.exchange, settings.partitions) == ("other", 9)
    assert (settings.notification_exchange, settings.notification_topic) == ("neutron", "more")
    assert settings.relay.window == 10


def with_pool(lanes: int, size: int, overflow: int, url: str = "postgresql://tracker@db/tracker") -> str:
    return (
        f"[worker]\nlanes = {lanes}\n[database]\nconnection = {url}\n"
        f"max_pool_size = {size}\nmax_overflow = {overflow}\n"
    )


@pytest.mark.parametrize(("lanes", "size", "overflow"), [(3, 5, 0), (1, 3, 0), (1, 1, 2), (64, 5, 50)])
def test_pool_with_too_few_connections_for_the_lanes_is_refused(
    tmp_path: Path, lanes: int, size: int, overflow: int
) -> None:
    """A lane that gets none would wait for ever: the others never give theirs back."""
    with pytest.raises(ValueError) as caught:
        settings_from(
            a_configuration(tmp_path, with_pool(lanes, size, overflow) + "[bus]\npartitions = 64\n")
        )
    assert str(caught.value) == (
        f"[database] max_pool_size ({size}) + max_overflow ({overflow}) allow {size + overflow} connections, "
        f"[worker] lanes ({lanes}) need {2 * lanes + 2}: two for each lane, one for the relay and one for "
        "the purge"
    )


def test_health_checks_need_one_connection_more(tmp_path: Path) -> None:
    settings_from(a_configuration(tmp_path, with_pool(1, 4, 0)))
    with pytest.raises(ValueError, match=r"need 5: .*, and one for \[health\] port$"):
        settings_from(a_configuration(tmp_path, with_pool(1, 4, 0) + "[health]\nport = 9281\n"))


@pytest.mark.parametrize(
    ("lanes", "size", "overflow"), [(3, 8, 0), (3, 5, 3), (1, 4, 0), (3, 0, 0), (3, 5, -1), (3, 0, -1)]
)
def test_pool_with_enough_connections_or_without_a_bound_is_taken(
    tmp_path: Path, lanes: int, size: int, overflow: int
) -> None:
    assert settings_from(a_configuration(tmp_path, with_pool(lanes, size, overflow))).lanes == lanes


def test_pool_of_sqlite_has_no_bound(tmp_path: Path) -> None:
    text = with_pool(1, 1, 0, "sqlite:////tmp/x")
    assert settings_from(a_configuration(tmp_path, text)).lanes == 1


@pytest.mark.parametrize("url", ["", "connection = sqlite:////tmp/x\n", "connection = sqlite://\n"])
def test_lanes_on_sqlite_are_refused(tmp_path: Path, url: str) -> None:
    text = f"[worker]\nlanes = 2\n[database]\n{url}"
    with pytest.raises(ValueError, match=r"\[worker\] lanes \(2\) must be 1 on SQLite"):
        settings_from(a_configuration(tmp_path, text))


def test_more_lanes_than_partitions_are_refused(tmp_path: Path) -> None:
    text = "[worker]\nlanes = 3\n[bus]\npartitions = 2\n[database]\nconnection = postgresql:///x\n"
    with pytest.raises(ValueError, match=r"lanes \(3\) is above \[bus\] partitions \(2\)"):
        settings_from(a_configuration(tmp_path, text))


RABBIT = "[DEFAULT]\ntransport_url = rabbit://u:p@h/v\n[oslo_messaging_rabbit]\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[database]\nretry_interval = -1\n", "[database] retry_interval (-1) must not be negative"),
        ("[database]\npool_timeout = -1\n", "[database] pool_timeout (-1) must not be negative"),
        ("[database]\nmax_pool_size = -5\n", "[database] max_pool_size (-5) must not be negative"),
        (
            "[worker]\npartitions = 1-5\n[bus]\npartitions = 4\n",
            "[worker] partitions (4, 5): [bus] partitions is 4, and they count from 0 to 3",
        ),
        (
            "[bus]\nexchange = nova\n",
            "[notifications] exchange and [bus] exchange are both nova, and consumers of notifications may "
            "declare theirs otherwise: give one of them another name",
        ),
        (
            f"{RABBIT}rabbit_quorum_queue = true\nrabbit_ha_queues = true\n",
            "[oslo_messaging_rabbit] rabbit_quorum_queue and rabbit_ha_queues are both true, and a queue has "
            "one type: unset rabbit_ha_queues",
        ),
        (
            f"{RABBIT}heartbeat_timeout_threshold = -1\n",
            "[oslo_messaging_rabbit] heartbeat_timeout_threshold (-1) must not be negative",
        ),
    ],
)
def test_combination_that_cannot_work_is_refused_with_its_values(
    tmp_path: Path, text: str, fault: str
) -> None:
    conf = a_configuration(tmp_path, text)
    oslo_messaging.get_rpc_transport(conf)
    with pytest.raises(ValueError) as caught:
        settings_from(conf)
    assert str(caught.value) == fault


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = "[worker]\nlanes = 3\npartitions = 2\n[bus]\npartitions = 2\n"
    with pytest.raises(ValueError) as caught:
        settings_from(a_configuration(tmp_path, text))
    assert [fault.split(" (")[0] for fault in str(caught.value).split("; ")] == [
        "[worker] lanes",
        "[worker] lanes",
        "[worker] partitions",
    ]


@pytest.mark.parametrize(
    ("driver", "notify"),
    [("noop", False), ("messagingv2", True), ("messagingv2\ndriver = noop", True)],
)
def test_the_noop_driver_turns_notifications_off(tmp_path: Path, driver: str, notify: bool) -> None:
    text = f"[oslo_messaging_notifications]\ndriver = {driver}\n"
    assert settings_from(a_configuration(tmp_path, text)).notify is notify
