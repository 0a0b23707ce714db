# SPDX-License-Identifier: Apache-2.0
"""The servers that a benchmark of a whole claim needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine, sync_schema


@contextmanager
def rabbitmq_and_postgresql() -> Iterator[tuple[str, str]]:
    """Run both; yield the URLs of a new virtual host and of a new database with the schema."""
    with RabbitMQ() as rabbitmq, PostgreSQL() as postgresql:
        rabbitmq.start()
        postgresql.start()
        database_url = postgresql.new_database()
        engine = create_engine(database_url)
        sync_schema(engine)
        engine.dispose()
        yield rabbitmq.url(rabbitmq.new_vhost()), database_url
