# SPDX-License-Identifier: Apache-2.0
"""`settings show`, `settings accept`."""

from typing import Any

from oslo_config import cfg

from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.session import engine_at_head, settings_of
from tracker_worker.cmd.sharing import ACCEPT, shared_settings_of
from tracker_worker.db import shared_settings


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show the settings that all workers of the database share, and whether this configuration differs."""
    shared = shared_settings_of(conf, settings_of(conf))
    configured = shared.fixed | shared.rules
    with engine_at_head(conf) as engine, engine.connect() as connection:
        stored = shared_settings.load(connection)
    names = sorted(configured.keys() | stored.keys())
    differing = {name for name in configured.keys() & stored.keys() if configured[name] != stored[name]}
    rows = [
        {
            "name": name,
            "database": stored.get(name),
            "configured": configured.get(name),
            "differs": name in differing,
        }
        for name in names
    ]
    if args.format != TABLE:
        print_document(rows, args.format)
    else:
        print_rows(("name", "database", "configured", "differs"), (list(row.values()) for row in rows))
    for name in sorted(differing):
        print_diagnostic(
            f"{name} differs: give all workers of the database the same value, or run '{ACCEPT}'"
        )
    return int(bool(differing))


def accept(conf: cfg.ConfigOpts, args: Any) -> int:
    """Store the shared settings of this configuration in the database; all workers must be stopped."""
    shared = shared_settings_of(conf, settings_of(conf))
    with engine_at_head(conf) as engine, engine.begin() as connection:
        shared_settings.put(connection, shared.fixed | shared.rules)
    return show(conf, args)
