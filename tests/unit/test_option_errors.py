# SPDX-License-Identifier: Apache-2.0
"""What an operator wrote, in a file of the program's own and in one of several programs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from tracker_worker import option_errors

OPTIONS = [
    cfg.IntOpt("lanes", min=1, max=64),
    cfg.FloatOpt("ratio", min=0),
    cfg.StrOpt("mode", choices=["tap", "mirror"]),
    cfg.MultiStrOpt("files"),
]
KNOWN = {"tracker_worker": {"lanes", "ratio", "mode", "files"}, "DEFAULT": {"debug"}}

Configured = Callable[[str], cfg.ConfigOpts]


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    def make(text: str) -> cfg.ConfigOpts:
        file = tmp_path / "nova.conf"
        file.write_text(text)
        conf = cfg.ConfigOpts()
        conf.register_opts(OPTIONS, group="tracker_worker")
        conf(["--config-file", str(file)], use_env=True)
        return conf

    return make


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("lanes = 0", "0 should be greater than or equal to 1"),
        ("lanes = 7\nlanes = 99", "99 should be less than or equal to 64"),
        ("lanes = many", "a whole number is needed, not 'many'"),
        ("ratio = much", "a number is needed, not 'much'"),
        ("mode = tapp", "Valid values are [tap, mirror], but found 'tapp'"),
    ],
)
def test_wrong_value_has_group_option_file_value_and_reason(
    configured: Configured, tmp_path: Path, option: str, reason: str
) -> None:
    name = option.partition(" ")[0]
    (line,) = option_errors.wrong_values(configured(f"[tracker_worker]\n{option}\n"))
    assert line == f"[tracker_worker] {name} from {tmp_path / 'nova.conf'} is not valid: {reason}"


def test_wrong_value_of_the_environment_has_its_variable(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_TRACKER_WORKER__LANES", "0")
    (line,) = option_errors.wrong_values(configured("[other]\n"))
    assert line.startswith("[tracker_worker] lanes from OS_TRACKER_WORKER__LANES is not valid: should be")


def test_wrong_values_of_one_group_leave_the_others_out(configured: Configured) -> None:
    conf = configured("[tracker_worker]\nlanes = 0\nmode = tapp\n[other]\nlanes = 0\n")
    conf.register_opts(OPTIONS, group="other")
    assert len(option_errors.wrong_values(conf, "tracker_worker")) == 2
    assert len(option_errors.wrong_values(conf)) == 3


def test_unknown_option_in_a_shared_file_is_named(configured: Configured, tmp_path: Path) -> None:
    conf = configured("[tracker_worker]\nmod = tap\n[libvirt]\nvirt_type = kvm\n")
    (line,) = option_errors.unknown_options_of_shared_files(conf, KNOWN)
    assert line == (
        f"{tmp_path / 'nova.conf'}: the option mod of [tracker_worker] is unknown and has no effect; "
        "did you mean mode?"
    )


@pytest.mark.parametrize("group", ["tracker-worker", "trackerworker", "tracker_workers"])
def test_misspelt_group_in_a_shared_file_is_named(configured: Configured, group: str) -> None:
    (line,) = option_errors.unknown_options_of_shared_files(configured(f"[{group}]\nmode = tap\n"), KNOWN)
    assert f"the group [{group}] is unknown and has no effect; did you mean tracker_worker?" in line


def test_group_of_another_program_in_a_shared_file_is_not_named(configured: Configured) -> None:
    conf = configured("[placement]\npassword = hunter2\n[TRACKER_WORKER]\nlanes = 1\n")
    assert option_errors.unknown_options_of_shared_files(conf, KNOWN) == []
    (line,) = option_errors.unknown_options(conf, KNOWN)
    assert "the group [placement] is unknown" in line and "hunter2" not in line
