# SPDX-License-Identifier: Apache-2.0
"""Options without effect are reported, and options with an effect are not."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

import tracker_worker
from tracker_worker.cmd import bootstrap, misconfiguration
from tracker_worker.cmd.unknown_options import unknown_options

SAMPLE = Path(tracker_worker.__file__).parents[1] / "etc" / "tracker-worker" / "tracker-worker.conf.sample"
RABBIT = "[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:1/\n"


def a_configuration(arguments: list[str]) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    bootstrap.register(conf)
    conf(arguments, project="tracker-worker")
    bootstrap.transports(conf)
    return conf


Configured = Callable[..., cfg.ConfigOpts]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """A configuration with one file."""

    def make(text: str, *arguments: str) -> cfg.ConfigOpts:
        file = tmp_path / "worker.conf"
        file.write_text(text)
        return a_configuration(["--config-file", str(file), *arguments])

    return make


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[worker]\nbatch_sise = 3\n", "option batch_sise of [worker]", "did you mean batch_size?"),
        ("[worker]\nbatch-size = 3\n", "option batch-size of [worker]", "did you mean batch_size?"),
        ("[workerr]\nlanes = 3\n", "group [workerr]", "did you mean worker?"),
        ("batch_size = 3\n", "option batch_size of [DEFAULT]", "did you mean [worker] batch_size?"),
        (
            "[oslo_messaging_rabbit]\nheartbeat_in_pthread = true\n",
            "option heartbeat_in_pthread of [oslo_messaging_rabbit]",
            "it is misspelt, or was removed",
        ),
        (
            "[keystone_authtoken]\npassword = hunter2\n",
            "group [keystone_authtoken]",
            "it is misspelt, or was removed",
        ),
    ],
    ids=["misspelt", "with a dash", "misspelt group", "another group's", "removed", "foreign group"],
)
def test_unknown_option_is_named_with_its_file_and_a_suggestion(
    configured: Configured, tmp_path: Path, text: str, what: str, hint: str
) -> None:
    (line,) = unknown_options(configured(f"[DEFAULT]\n{text}"))
    assert line == f"{tmp_path / 'worker.conf'}: the {what} is unknown and has no effect; {hint}"


def test_unknown_options_of_a_directory_are_found_too(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("[bus]\npartitionsx = 3\n")
    (tmp_path / "ignored.txt").write_text("[bus]\npartitionsx = 3\n")
    (line,) = unknown_options(a_configuration(["--config-dir", str(tmp_path)]))
    assert line.startswith(f"{tmp_path / 'more.conf'}: the option partitionsx of [bus]")


@pytest.mark.parametrize(
    "text",
    [
        "[WORKER]\nlanes = 1\n",
        "[DEFAULT]\nlogfile = x\n",
        "[oslo_messaging_kafka]\ncompression_codec = none\n",
        "[database]\nconnection = sqlite:////tmp/x\n",
    ],
    ids=["group in capitals", "former name", "another transport's", "library's"],
)
def test_known_option_is_not_reported(configured: Configured, text: str) -> None:
    assert unknown_options(configured(text)) == []


def options_of_the_sample() -> Iterator[tuple[str, str, str]]:
    """Group, name and shown value of every option; the value is empty where there is none."""
    group = ""
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("["):
            group = line.strip("[]")
        elif match := re.fullmatch(r"#(\w+) = ?(.*)", line):
            yield group, match[1], match[2].replace("<None>", "")


def test_sample_has_no_unknown_option_and_shows_the_defaults_of_a_worker(configured: Configured) -> None:
    shown = list(options_of_the_sample())
    text = "".join(f"[{group}]\n{name} = {value}\n" for group, name, value in shown)
    conf, default = configured(text), a_configuration([])
    assert unknown_options(conf) == []
    for group, name, value in shown:
        registered = group == "DEFAULT" or group in default  # Those of the transport in use are.
        if not value or not registered or (group, name) == ("worker", "partitions"):  # This is an example.
            continue
        read, by_default = (each if group == "DEFAULT" else each[group] for each in (conf, default))
        if name in by_default:  # Some of oslo.config's are registered by command lines alone.
            assert read[name] == by_default[name], f"[{group}] {name}"
    assert ("DEFAULT", "transport_url", "fake://") in shown
    assert ("oslo_messaging_notifications", "driver", "messagingv2") in shown


def test_worker_without_a_transport_url_is_unreachable_and_its_files_are_named(
    configured: Configured, tmp_path: Path
) -> None:
    (line,) = misconfiguration.unreachable(configured(""))
    assert line.startswith(f"[DEFAULT] transport_url is not set ({tmp_path / 'worker.conf'})")
    conf = a_configuration([])
    assert not misconfiguration.is_transport_configured(conf)
    assert "no configuration file was found" in misconfiguration.unreachable(conf)[0]


def test_worker_whose_transport_url_is_fake_is_unreachable(configured: Configured) -> None:
    conf = configured("[DEFAULT]\ntransport_url = fake://\n")
    assert misconfiguration.is_transport_configured(conf)
    assert misconfiguration.unreachable(conf)[0].startswith("[DEFAULT] transport_url = fake://: nothing")
    assert misconfiguration.unreachable(configured(RABBIT)) == []


def test_files_of_tls_without_ssl_have_no_effect(configured: Configured) -> None:
    conf = configured(f"{RABBIT}[oslo_messaging_rabbit]\nssl_ca_file = /ca.pem\n")
    (line,) = misconfiguration.without_effect(conf)
    assert "ssl_ca_file: no effect" in line
    assert misconfiguration.without_effect(configured(RABBIT)) == []


def test_files_of_tls_have_an_effect_if_the_url_turns_it_on(configured: Configured) -> None:
    text = RABBIT.replace("1/", "1/?ssl=true")
    conf = configured(f"{text}[oslo_messaging_rabbit]\nssl_ca_file = /ca.pem\n")
    assert misconfiguration.without_effect(conf) == []


def test_notifications_that_stay_in_the_process_are_reported(configured: Configured) -> None:
    own = f"{RABBIT}[oslo_messaging_notifications]\ntransport_url = fake://\n"
    (line,) = misconfiguration.unreachable(configured(own))
    assert line.startswith("[oslo_messaging_notifications] transport_url = fake://: no consumer outside")
    assert misconfiguration.unreachable(configured(f"{own}driver = noop\n")) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[DEFAULT]\ncontrol_exchange = nova\n",
            "[DEFAULT] control_exchange: no effect on a worker; the",
        ),
        (
            "[database]\nslave_connection = x://\n",
            "[database] slave_connection: no effect on a worker; it",
        ),
        (
            "[oslo_messaging_notifications]\ntopics = a\n",
            "[oslo_messaging_notifications] topics: no effect on a worker; set [notifications] topic",
        ),
        (
            "[oslo_messaging_rabbit]\nrabbit_qos_prefetch_count = 9\n",
            "[oslo_messaging_rabbit] rabbit_qos_prefetch_count: no effect on a worker; set [worker] prefetch",
        ),
        (
            "[oslo_messaging_notifications]\ndriver = log\n",
            "[oslo_messaging_notifications] driver = log: a worker publishes as with messagingv2; set",
        ),
        (
            "[DEFAULT]\nlog_config_append = x\nlog_file = y\nuse_json = true\n",
            "[DEFAULT] log_file, use_json: no effect, the file of log_config_append has all of the logging",
        ),
        (
            "[DEFAULT]\nlog_config_append = x\ndebug = true\n",
            "[DEFAULT] debug: no effect, the file of log_config_append has all of the logging",
        ),
        ("[worker]\nstandby_delay = 3\n", "[worker] standby_delay: no effect, without [worker] partitions"),
        (
            "[worker]\nbatch_size = 100\nprefetch = 9\n[bus]\npartitions = 10\n",
            "[worker] batch_size (100): at most 90 events wait, [worker] prefetch (9) for each of the [bus] "
            "partitions (10); raise prefetch",
        ),
        (
            "[worker]\nbatch_bytes = 1048577\nmemory_budget = 1\n",
            "[worker] batch_bytes (1048577): at most 1048576 bytes wait; raise [worker] memory_budget",
        ),
        (
            "[worker]\nlanes = 2\npartitions = 0, 4\n",
            "[worker] lanes (2): the lane of a partition is its number modulo lanes, and those of [worker] "
            "partitions keep 1 busy; name others, or lower lanes",
        ),
        (
            "[tracker]\nreceipt_days = 9\nremoved_node_days = 8\n",
            "[tracker] receipt_days (9): the receipts of a removed node are deleted after removed_node_days",
        ),
    ],
)
def test_option_with_less_effect_than_it_says_is_reported(
    configured: Configured, text: str, line: str
) -> None:
    (found,) = misconfiguration.without_effect(configured(f"{RABBIT}{text}"))
    assert found.startswith(line)


@pytest.mark.parametrize(
    "text",
    [
        "[worker]\nbatch_size = 90\nprefetch = 9\n[bus]\npartitions = 10\n",
        "[worker]\nbatch_bytes = 1048576\nmemory_budget = 1\n",
        "[worker]\nlanes = 2\npartitions = 0, 3\nstandby_delay = 1\n",
        "[tracker]\nreceipt_days = 9\nremoved_node_days = 9\n",
        "[oslo_messaging_notifications]\ndriver = noop\n",
    ],
)
def test_option_with_its_full_effect_is_not_reported(configured: Configured, text: str) -> None:
    assert misconfiguration.without_effect(configured(f"{RABBIT}{text}")) == []


def test_nothing_is_reported_of_the_defaults() -> None:
    assert misconfiguration.without_effect(a_configuration([])) == []


def test_logging_configuration_without_a_named_section_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "logging.conf"
    lines = [
        "[loggers]",
        "keys = root",
        "[handlers]",
        "keys = out, err",
        "[formatters]",
        "keys =",
        "[handler_out]",
    ]
    file.write_text("\n".join([*lines, "[logger_root]", "handlers = out, err"]))
    conf = a_configuration(["--log-config-append", str(file)])
    assert misconfiguration.unwritable_log(conf, "tracker-worker") == [
        f"[DEFAULT] log_config_append = {file}: it lacks [handler_err]"
    ]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("level = INFOO", "[logger_root] level: unknown level 'INFOO'; write one as in level = WARNING"),
        ("level = info", "[logger_root] level: unknown level 'info'; write one as in level = WARNING"),
        ("level = WARNING", None),
        ("level =", "[logger_root] level: unknown level ''; write one as in level = WARNING"),
        ("level = %(usual)s\n[DEFAULT]\nusual = INFO", None),
        ("level = %(usual)s", "Bad value substitution: option 'level' in section 'logger_root'"),
        ("[formatter_unused]\nformat = %(message)s\n[logger_unused]\nlevel = INFOO", None),
        ("#\xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_logging_configuration_that_logging_cannot_read_is_named(
    tmp_path: Path, lines: str, fault: str | None
) -> None:
    """Found by a newcomer: the worker did not start, and the check was green."""
    file = tmp_path / "logging.conf"
    empty = "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n"
    file.write_bytes(f"{empty}[logger_root]\nhandlers =\n{lines}\n".encode("latin-1"))
    found = misconfiguration.unwritable_log(a_configuration(["--log-config-append", str(file)]), "x")
    expected = [] if fault is None else [f"[DEFAULT] log_config_append = {file}: {fault}"]
    assert [line[: len(text)] for line, text in zip(found, expected, strict=True)] == expected
