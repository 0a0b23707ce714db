# SPDX-License-Identifier: Apache-2.0
"""A configuration of [placement], for the tests of its options and of the client that is made of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from tracker_worker.conf import opts


@pytest.fixture
def placement_options(tmp_path: Path) -> Callable[[str], cfg.ConfigOpts]:
    """Make a configuration with these lines in [placement]."""

    def make(text: str) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        file = tmp_path / "test.conf"
        file.write_text(f"[placement]\n{text}\n")
        conf([], default_config_files=[str(file)], project="test")
        return conf

    return make
