# SPDX-License-Identifier: Apache-2.0
"""Command lines: the order that oslo.config needs, and what it does not tell of them."""

from argparse import ArgumentParser


def configuration_first(program: str, arguments: list[str]) -> list[str]:
    """Return the arguments with those before the command that name files and directories of configuration.

    oslo.config takes its own options before a command only. Exits as argparse does if one has no value.
    """
    parser = ArgumentParser(prog=program, usage=f"{program} --help", add_help=False, allow_abbrev=False)
    for name in ("--config-file", "--config-dir"):
        parser.add_argument(name, dest="first", action="append", type=f"{name}={{}}".format, default=[])
    found, rest = parser.parse_known_args(arguments)
    return [*found.first, *rest]


def is_debug(arguments: list[str]) -> bool:
    """Tell whether a command line that oslo.config accepts has --debug.

    `debug` in a file is the daemon's: its DEBUG lines would hide what a command prints. oslo.config does not
    tell which of the two has set the option.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)  # --node is no short --nodebug.
    parser.add_argument("-d", "--debug", action="store_true")
    parser.add_argument("--nodebug", action="store_false", dest="debug", default=False)
    found, _ = parser.parse_known_args(arguments)
    return bool(found.debug)
