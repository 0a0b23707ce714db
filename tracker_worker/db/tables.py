# SPDX-License-Identifier: Apache-2.0
"""The tables. Values that queries use are columns, the others are JSON. Units are MB and vcpus, times UTC."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from tracker_worker.db.clock import UtcNow

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = sa.String(255)
UUID = sa.String(36)
EVENT_ID = sa.String(64)
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql")
MARIADB: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_nopad_bin",
}
"""With this collation texts compare byte for byte, trailing blanks included, as on the other databases."""


class Json(sa.JSON):
    """JSON that MariaDB stores as LONGTEXT, since its JSON type is limited to 32 levels."""

    cache_ok = True


@compiles(Json, "mysql")
def _json_in_mariadb(_type: Json, _compiler: Any, **_how: Any) -> str:
    return "LONGTEXT"


NODES = sa.Table(
    "nodes",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("usage_sequence", sa.BigInteger, nullable=False),
    sa.Column("uuid", UUID, unique=True),
    sa.Column("host", NAME),
    sa.Column("vcpus_used", sa.BigInteger, nullable=False),
    sa.Column("memory_mb_used", sa.BigInteger, nullable=False),
    sa.Column("disk_mb_used", sa.BigInteger, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
    sa.Column("failed_builds", sa.Integer, nullable=False),
    sa.Column("conflicts", Json, nullable=False),
    sa.Column("reserved_vcpus", sa.BigInteger, nullable=False),
    sa.Column("reserved_memory_mb", sa.BigInteger, nullable=False),
    sa.Column("reserved_disk_mb", sa.BigInteger, nullable=False),
    sa.Column("cpu_allocation_ratio", sa.Double, nullable=False),
    sa.Column("ram_allocation_ratio", sa.Double, nullable=False),
    sa.Column("disk_allocation_ratio", sa.Double, nullable=False),
    sa.Column("resources", Json(none_as_null=True)),
    sa.Column("commit_id", UUID, nullable=False, server_default="0"),
    sa.Column("sources", Json(none_as_null=True)),
    **MARIADB,
)

CLAIMS = sa.Table(
    "claims",
    METADATA,
    sa.Column("node", NAME, primary_key=True),
    sa.Column("instance_uuid", UUID, primary_key=True),
    sa.Column("role", sa.String(8), primary_key=True),
    sa.Column("migration_uuid", UUID),
    sa.Column("vcpus", sa.BigInteger, nullable=False),
    sa.Column("memory_mb", sa.BigInteger, nullable=False),
    sa.Column("disk_mb", sa.BigInteger, nullable=False),
    sa.Column("root_gb", sa.BigInteger, nullable=False),
    sa.Column("ephemeral_gb", sa.BigInteger, nullable=False),
    sa.Column("swap_mb", sa.BigInteger, nullable=False),
    sa.Column("volume_backed", sa.Boolean, nullable=False),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("os_type", NAME),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("numa_request", Json(none_as_null=True)),
    sa.Column("numa_topology", Json(none_as_null=True)),
    sa.Column("pci_requests", Json(none_as_null=True)),
    sa.Column("pci_devices", Json(none_as_null=True)),
    sa.Column("assigned", sa.Boolean, nullable=False, server_default="0"),
    **MARIADB,
)

TOUCHED = sa.Table(
    "touched",
    METADATA,
    sa.Column("node", NAME, primary_key=True),
    sa.Column("instance_uuid", UUID, primary_key=True),
    sa.Column("source", NAME, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    **MARIADB,
)

RECEIPTS = sa.Table(
    "receipts",
    METADATA,
    sa.Column("event_id", EVENT_ID, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("node", NAME),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("method", sa.String(64)),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reply", Json, nullable=False),
    sa.Column("recorded_at", TIME, nullable=False, default=UtcNow()),
    sa.Column("instance_uuid", UUID),
    sa.Column("request_id", sa.String(64)),
    sa.Column("delta", TEXT),
    sa.Index(None, "node", "sequence", "recorded_at"),
    **MARIADB,
)

ATTEMPTS = sa.Table(
    "attempts",
    METADATA,
    sa.Column("event_id", EVENT_ID, primary_key=True),
    sa.Column("counted_at", TIME, nullable=False, default=UtcNow()),
    sa.Column("begun", sa.Integer, nullable=False),
    sa.Column("decoded", sa.Boolean, nullable=False),
    sa.Index(None, "counted_at"),
    **MARIADB,
)

OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", ROW_ID, primary_key=True, autoincrement=True),
    sa.Column("node", NAME),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("priority", sa.String(8), nullable=False),
    sa.Column("message_id", UUID, nullable=False),
    sa.Column("body", BYTES, nullable=False),
    sqlite_autoincrement=True,
    **MARIADB,
)

DEAD_LETTERS = sa.Table(
    "dead_letters",
    METADATA,
    sa.Column("id", UUID, primary_key=True),
    sa.Column("event_id", EVENT_ID, nullable=False),
    sa.Column("code", sa.String(32), nullable=False),
    sa.Column("path", sa.String(255), nullable=False),
    sa.Column("message", TEXT, nullable=False),
    sa.Column("node", NAME),
    sa.Column("method", sa.String(64)),
    sa.Column("body", TEXT, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("recorded_at", TIME, nullable=False, default=UtcNow()),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("position", sa.Integer, nullable=False, server_default="0"),
    sa.Column("settled_at", TIME),
    sa.Column("request_id", sa.String(64)),
    sa.Column("reply_host", NAME),
    sa.Index(None, "event_id"),
    sa.Index(None, "node"),
    sa.Index(None, "settled_at"),
    **MARIADB,
)

LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
    **MARIADB,
)

PROVIDERS = sa.Table(
    "providers",
    METADATA,
    sa.Column("node", NAME, primary_key=True),
    sa.Column("changes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("changed_at", TIME),
    sa.Column("due_at", TIME),
    sa.Column("synced_at", TIME),
    sa.Column("digest", sa.String(64)),
    sa.Column("known", Json(none_as_null=True)),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error", TEXT),
    sa.Column("foreign_provider", NAME),
    sa.Index(None, "due_at"),
    **MARIADB,
)

SHARED_SETTINGS = sa.Table(
    "shared_settings",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", TEXT, nullable=False),
    **MARIADB,
)
