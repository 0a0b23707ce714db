# SPDX-License-Identifier: Apache-2.0
"""A reload takes effect as a whole or not at all; tests/programs/test_daemon.py does it to a process."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tracker_worker.cmd import reload
from tracker_worker.cmd.reload import reload_options

PARTS = ("not read again, everything stays as it was", "Options changed: level")


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    """A configuration with one option that may change."""
    conf = cfg.ConfigOpts()
    options = [cfg.StrOpt("level", mutable=True), cfg.StrOpt("fixed"), cfg.StrOpt("log_config_append")]
    conf.register_opts(options)
    file = tmp_path / "conf"
    file.write_text("[DEFAULT]\nlevel = old\n")
    conf(["--config-file", str(file)])
    return conf


def file_of(conf: cfg.ConfigOpts) -> Path:
    (file,) = conf.config_file
    return Path(file)


def write(conf: cfg.ConfigOpts, text: str) -> None:
    file_of(conf).write_text(f"[DEFAULT]\n{text}\n")


@pytest.mark.parametrize("error", [RuntimeError("hook fails"), SystemExit(1), cfg.Error("hook fails")])
def test_reload_whose_hook_fails_changes_no_option(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    seen = []

    def fail(_conf: cfg.ConfigOpts, _fresh: dict[tuple[None, str], tuple[str, str]]) -> None:
        seen.append(conf.level)
        raise error

    conf.register_mutate_hook(fail)
    write(conf, "level = new")
    reload_options(conf)
    assert seen == ["new"]
    assert conf.level == "old"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert PARTS[0] in line and "\n" not in line


def test_reload_leaves_standard_error_to_the_handlers_that_it_makes(conf: cfg.ConfigOpts) -> None:
    seen = []
    conf.register_mutate_hook(lambda _conf, _fresh: seen.append(sys.stderr))
    reload_options(conf)
    assert seen == [sys.stderr]


def test_reload_of_a_wrong_value_of_the_command_line_s_option_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = cfg.ConfigOpts()
    conf.register_cli_opt(cfg.BoolOpt("debug", mutable=True))
    conf.register_opt(cfg.StrOpt("log_config_append"))
    file = tmp_path / "conf"
    file.write_text("")
    conf(["--config-file", str(file)])
    file.write_text("[DEFAULT]\ndebug = perhaps\n")
    reload_options(conf)
    assert conf.debug is None
    assert "argument --debug: Invalid Boolean value: perhaps" in caplog.text
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("debug", "overruled"), [("debug = true\n", True), ("", False)])
def test_reload_of_debug_is_overruled_only_where_the_file_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, debug: str, overruled: bool
) -> None:
    """Found by a newcomer, who had removed it as the start had advised."""
    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.BoolOpt("debug", mutable=True), cfg.StrOpt("log_config_append")])
    file = tmp_path / "conf"
    logging_file = f"[DEFAULT]\nlog_config_append = {tmp_path}/logging.conf\n"
    file.write_text(logging_file + ("" if debug else "debug = true\n"))
    conf(["--config-file", str(file)])
    file.write_text(logging_file + debug)
    caplog.set_level(logging.INFO)
    reload_options(conf)
    assert "Options changed: debug" in caplog.text
    assert ("[DEFAULT] debug: overruled by log_config_append" in caplog.text) is overruled


def test_reload_whose_hook_fails_changes_no_logger(conf: cfg.ConfigOpts) -> None:
    logger = logging.getLogger("a.logger.of.this.test")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)

    def fail(_conf: cfg.ConfigOpts, _fresh: dict[str, Any]) -> None:
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
        logger.propagate, logger.disabled = False, True
        raise RuntimeError

    conf.register_mutate_hook(fail)
    reload_options(conf)
    assert (logger.handlers, logger.level) == ([handler], logging.ERROR)
    assert (logger.propagate, logger.disabled) == (True, False)


def test_reload_after_one_that_failed_compares_with_what_is_in_force(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    fails = [RuntimeError("once")]

    def fail(_conf: cfg.ConfigOpts, _fresh: dict[tuple[None, str], tuple[str, str]]) -> None:
        if fails:
            raise fails.pop()

    conf.register_mutate_hook(fail)
    write(conf, "level = new")
    caplog.set_level(logging.INFO)
    reload_options(conf)
    reload_options(conf)
    assert conf.level == "new"
    assert PARTS[1] in caplog.text


@pytest.mark.parametrize("text", ["[", "  level = SECRET", "level SECRET"])
def test_reload_of_a_file_that_cannot_be_parsed_is_logged_without_its_line(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    file_of(conf).write_text(f"[DEFAULT]\n{text}\n" if text != "[" else "[SECRET")
    reload_options(conf)
    assert conf.level == "old"
    assert PARTS[0] in caplog.text and ", line " in caplog.text
    assert "SECRET" not in caplog.text


def test_reload_goes_on_whatever_the_next_start_raises(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_conf: cfg.ConfigOpts) -> None:
        raise RuntimeError("queue type is quorum or HA")

    monkeypatch.setattr(reload, "settings_of", fail)
    reload_options(conf)
    assert "will not start again with these files: queue type is quorum or HA" in caplog.text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("level = new", None),
        ("[worker]\nlanes = 2", "[worker] lanes (2) must be 1 on SQLite"),
        ("transport_url = kombu://h/", "[DEFAULT] transport_url = kombu://h/ cannot be used"),
        ("[worker]\nbatch_size = 0", "[worker] batch_size"),
    ],
    ids=["none", "options that exclude each other", "transport", "wrong value"],
)
def test_reload_logs_why_the_next_start_would_fail(
    conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture, text: str, fault: str | None
) -> None:
    write(conf, f"level = new\n{text}")
    reload_options(conf)
    assert conf.level == "new"
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [fault in error for error in errors if fault] == ([True] if fault else [])
    assert len(errors) == bool(fault)
