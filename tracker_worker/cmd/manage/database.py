# SPDX-License-Identifier: Apache-2.0
"""`db sync`, `db version`, `db purge`."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict, replace
from oslo_config import cfg

from tracker_worker.cmd import bootstrap
from tracker_worker.cmd.database import DIRECTORY_MODE, database_file
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.formatting import TABLE, print_document, print_fields
from tracker_worker.cmd.manage.session import (
    database_of,
    engine_at_head,
    reporting_database_errors,
    url_of_database,
)
from tracker_worker.cmd.progress import elapsed_time
from tracker_worker.core.urls import printable_url
from tracker_worker.db import revisions
from tracker_worker.worker.configuration import retention_of
from tracker_worker.worker.purge import Purge


def sync(conf: cfg.ConfigOpts, args: Any) -> int:
    """Migrate the schema to a revision, by default the newest; create the embedded database if missing."""
    if args.revision not in ("head", *revisions.known()):
        raise CommandFailed(
            f"--version '{args.revision}': there is no such revision; the newest is {revisions.head()}"
        )
    if not url_of_database(conf):
        with reporting_database_errors(conf):
            file = database_file(Path(conf.state_path))
            file.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            file.touch(0o600)
    engine = database_of(conf)
    try:
        with reporting_database_errors(conf):
            with engine.connect() as connection:
                before = revisions.current(connection)
            with elapsed_time("migrating the schema"):
                bootstrap.migrate(engine, args.revision)
            with engine.connect() as connection:
                after = revisions.current(connection)
    finally:
        engine.dispose()
    if after == before and args.revision not in ("head", after):
        raise CommandFailed(
            f"--version {args.revision}: the schema is {after}, and a downgrade is not supported"
        )
    fields = {"connection": _where(engine), "before": before, "database": after, "code": revisions.head()}
    return _show(args, fields)


def version(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show the revision of the database's schema, and the revision that this version needs."""
    engine = database_of(conf)
    try:
        with reporting_database_errors(conf), engine.connect() as connection:
            current = revisions.current(connection)
    finally:
        engine.dispose()
    return _show(args, {"connection": _where(engine), "database": current, "code": revisions.head()})


def purge(conf: cfg.ConfigOpts, args: Any) -> int:
    """Delete rows that are older than their retention, as workers do every hour; or count them."""
    settings = retention_of(conf.tracker)
    if args.days:
        settings = replace(settings, receipt_days=args.days)
    what = "counting old rows" if args.dry_run else "deleting old rows"
    with engine_at_head(conf) as engine, reporting_database_errors(conf), elapsed_time(what):
        purged = Purge(engine, settings, lambda: None).run_once(dry_run=args.dry_run)
    return _show(args, {**asdict(purged), "days": settings.receipt_days, "dry_run": args.dry_run})


def _where(engine: sa.Engine) -> str:
    """Return the URL without its secrets, for the user to check that it is the intended database."""
    return printable_url(engine.url.render_as_string(hide_password=False))


def _show(args: Any, fields: dict[str, Any]) -> int:
    if args.format != TABLE:
        print_document(fields, args.format)
    else:
        print_fields(fields)
    return 0
