# SPDX-License-Identifier: Apache-2.0
"""The order of a command line: oslo.config takes its own options before a command only."""

from argparse import ArgumentParser


def configuration_first(program: str, arguments: list[str]) -> list[str]:
    """Return the arguments with those before the command that name files and directories of configuration.

    Exits as argparse does if one has no value.
    """
    parser = ArgumentParser(prog=program, usage=f"{program} --help", add_help=False, allow_abbrev=False)
    for name in ("--config-file", "--config-dir"):
        parser.add_argument(name, dest="first", action="append", type=f"{name}={{}}".format, default=[])
    found, rest = parser.parse_known_args(arguments)
    return [*found.first, *rest]
