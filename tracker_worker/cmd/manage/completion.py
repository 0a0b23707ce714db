# SPDX-License-Identifier: Apache-2.0
"""`completion`."""

import sys
from typing import Any

from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.commands import COMMANDS, SUBJECTS
from tracker_worker.cmd.manage.parser import whole_parser


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Print a script for a shell that completes the commands and their options."""
    try:
        import shtab
    except ImportError as error:
        raise CommandFailed("completion needs the package shtab: pip install shtab") from error
    sys.stdout.write(shtab.complete(whole_parser(SUBJECTS, COMMANDS), args.shell) + "\n")
    return 0
