# SPDX-License-Identifier: Apache-2.0
"""What a configuration says that nobody can have meant, and that oslo.config takes without a word.

A worker logs it as warnings when it starts and when it reads its files again; the upgrade check reports it.
"""

import logging
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tracker_worker.bus import tls
from tracker_worker.conf import opts
from tracker_worker.worker.service import RABBIT, rabbit_options

LOG = logging.getLogger(__name__)

RABBIT_GROUP = "oslo_messaging_rabbit"


def log_warnings(conf: cfg.ConfigOpts) -> None:
    """Log everything that this module finds. After the transports were made."""
    for text in (*unknown_options(conf), *unreachable(conf), *without_effect(conf)):
        LOG.warning("%s", text)


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line for each option in the configuration files that nothing reads, with its file.

    No value is shown. Raises cfg.Error for a file that cannot be read.
    """
    known = opts.known_options(conf)
    found = []
    for file in _files(conf):
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(str(file), sections).parse()
        for section, options in sections.items():
            # Names of groups, unlike those of options, may be written in capitals.
            names = known.get(section) or known.get(section.lower())
            if names is None:
                found.append(_line(file, f"the group [{section}]", _similar(section, known)))
                continue
            for name in options.keys() - names:
                others = [f"[{group}] {name}" for group in known if name in known[group]]
                meant = _similar(name, names) or others
                found.append(_line(file, f"the option {name} of [{section}]", meant))
    return sorted(found)


def _files(conf: cfg.ConfigOpts) -> Iterator[Path]:
    for name in conf.config_file:
        yield Path(name).expanduser()
    for directory in conf.config_dir:
        yield from sorted(Path(directory).expanduser().glob("*.conf"))


def _line(file: Path, what: str, meant: list[str]) -> str:
    hint = f"did you mean {meant[0]}?" if meant else "it is misspelt, or was removed"
    return f"{file}: {what} is unknown and has no effect; {hint}"


def _similar(name: str, names: Iterable[str]) -> list[str]:
    return get_close_matches(name, names, n=1, cutoff=0.8)


def is_transport_configured(conf: cfg.ConfigOpts) -> bool:
    """Tell whether somebody has said what the transport is. After the transports were made."""
    location = conf.get_location("transport_url")
    return location is not None and location.location.is_user_controlled


def unreachable(conf: cfg.ConfigOpts) -> list[str]:
    """Return why no compute manager reaches a worker with this configuration, if that is so."""
    if not conf.transport_url.startswith(opts.TRANSPORT_URL):
        return []
    said = f"[DEFAULT] transport_url = {opts.TRANSPORT_URL}"
    if not is_transport_configured(conf):
        files = ", ".join(conf.config_file) or "no configuration file was found or given"
        said = f"[DEFAULT] transport_url is not set ({files})"
    return [f"{said}: nothing outside of the worker's own process can reach it"]


def without_effect(conf: cfg.ConfigOpts) -> list[str]:
    """Return which options have no effect because of the value of another one."""
    url = oslo_messaging.TransportURL.parse(conf, conf.transport_url)
    names = tls.ignored_options(rabbit_options(conf, url)) if url.transport == RABBIT else []
    if not names:
        return []
    return [f"[{RABBIT_GROUP}] {', '.join(names)}: no effect, the connection is not encrypted without ssl"]
