# SPDX-License-Identifier: Apache-2.0
"""What is private to oslo.config and used is as it was read."""

from pathlib import Path

import pytest
from oslo_config import cfg

from tests.unit.private_apis.pins import Library
from tracker_worker.private_apis.oslo_config import check_files, mutated_values, restore_mutated_values

OSLO_CONFIG = Library("oslo.config", "oslo_config")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf"


@pytest.fixture
def conf(file: Path) -> cfg.ConfigOpts:
    """A configuration that has been read, and whose file has changed since."""
    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.IntOpt("number", mutable=True)])
    file.write_text("[DEFAULT]\nnumber = 1\n")
    conf(["--config-file", str(file)])
    file.write_text("[DEFAULT]\nnumber = 2\n")
    return conf


def test_configuration_has_the_private_names() -> None:
    OSLO_CONFIG.takes("oslo_config.cfg:ConfigOpts._reload_config_files", "self")
    OSLO_CONFIG.has("the first value of _mutable_ns", cfg.ConfigOpts()._mutable_ns, None)


def test_files_are_checked_and_change_nothing(conf: cfg.ConfigOpts) -> None:
    check_files(conf)
    assert (conf.number, mutated_values(conf)) == (1, None)


def test_file_that_is_missing_is_told(conf: cfg.ConfigOpts, file: Path) -> None:
    file.unlink()
    with pytest.raises(cfg.ConfigFilesNotFoundError):
        check_files(conf)


def test_restored_values_are_read_again(conf: cfg.ConfigOpts) -> None:
    before = mutated_values(conf)
    conf.mutate_config_files()
    assert conf.number == 2
    restore_mutated_values(conf, before)
    assert conf.number == 1
