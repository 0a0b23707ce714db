# SPDX-License-Identifier: Apache-2.0
"""`instance show`: what nodes hold or held for an instance."""

from itertools import islice
from typing import Any

from msgspec.structs import astuple
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.changes import Entry, entry_of, line_of, of_instance
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.cmd.progress import elapsed_time
from tracker_worker.db import instance_queries, receipt_queries
from tracker_worker.db.instance_queries import LetterOfInstance, StoredClaim

_EVENT = ("recorded_at", "node", "sequence", "method", "outcome")
_CAUSE = ("request_id", "event_id", "reason")


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show what nodes hold for an instance, the events that concern it, and its dead letters."""
    with snapshot(conf) as connection, elapsed_time("reading receipts"):
        claims = instance_queries.claims(connection, args.uuid)
        letters = instance_queries.dead_letters(connection, args.uuid)
        found = receipt_queries.of_instance(connection, args.uuid)
    entries = (own for event in found if (own := of_instance(entry_of(event), args.uuid)) is not None)
    events = list(islice(entries, args.limit))[::-1]
    more = next(entries, None) is not None
    if not (claims or letters or events):
        raise CommandFailed(f"no claim, event or dead letter of instance '{args.uuid}' is kept")
    if args.format != TABLE:
        document = {"uuid": args.uuid, "claims": claims, "events": events, "dead_letters": letters}
        print_document(document, args.format)
    else:
        print_rows(StoredClaim.__struct_fields__, map(astuple, claims), f"Claims of instance {args.uuid}")
        print_rows((*_EVENT, "changes", *_CAUSE), map(_row, events), "Events", keep=("sequence",))
        if letters:
            print_rows(LetterOfInstance.__struct_fields__, map(astuple, letters), "Dead letters")
    if more:
        print_diagnostic(f"the newest {len(events)} events: --limit shows more")
    return 0


def _row(entry: Entry) -> list[Any]:
    fields = [getattr(entry, name) for name in _EVENT]
    return [*fields, line_of(entry), *(getattr(entry, name) for name in _CAUSE)]
