# SPDX-License-Identifier: Apache-2.0
"""Reads the directory of Nova's provider configuration files."""

from pathlib import Path

from tracker_worker.placement.provider_config import ProviderConfigs, parse


def read_provider_configs(directory: Path) -> ProviderConfigs:
    """Return the contents of all `*.yaml` in a directory, but of hidden files.

    Raises ValueError, which names the directory or the file, for what cannot be read or is wrong. Any thread.
    """
    try:
        files = [each for each in directory.iterdir() if each.suffix == ".yaml" and each.name[0] != "."]
    except OSError as error:
        raise ValueError(f"{directory}: {error.strerror}") from None
    return parse({str(file): _read(file) for file in sorted(files)})


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8") from None
