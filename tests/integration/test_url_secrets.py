# SPDX-License-Identifier: Apache-2.0
"""A worker on real servers logs no password, with every logger at DEBUG and the password in the URL's query.

tests/properties/test_url_secrets.py has the URLs that cannot be used.
"""

import pytest
import sqlalchemy as sa

from tests.integration.daemon import SECRETS, Daemon

EVERYTHING = {"debug": True, "default_log_levels": ""}


@pytest.fixture(params=["database_url", "mariadb_url"], ids=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> sa.URL:
    """The database's URL with user and password in its query."""
    url = sa.make_url(request.getfixturevalue(request.param))
    assert url.username and url.password and url.password.startswith(SECRETS)
    query = {"user": url.username, "password": url.password}
    return sa.URL.create(
        url.drivername, host=url.host, port=url.port, database=url.database, query={**url.query, **query}
    )


def test_worker_that_runs_logs_where_its_servers_are_and_no_password(vhost_url: str, url: sa.URL) -> None:
    with Daemon(vhost_url, url.render_as_string(hide_password=False), DEFAULT=EVERYTHING) as daemon:
        daemon.wait_until_it_consumes()
        daemon.wait_for(lambda: " DEBUG " in daemon.log, "no line of DEBUG")
        (line,) = daemon.wait_for_line("commands from")
    assert f"//{url.host}:{url.port}/{url.database}, " in line
    assert "?" not in line


def test_worker_with_a_wrong_password_logs_what_the_server_says_and_no_password(
    vhost_url: str, url: sa.URL
) -> None:
    wrong = url.update_query_dict({"password": f"{SECRETS[0]}/of@no user"})
    with Daemon(vhost_url, wrong.render_as_string(hide_password=False), DEFAULT=EVERYTHING) as daemon:
        (line,) = daemon.wait_for_line(f"//{url.host}:{url.port}/{url.database}")
        assert "no user" not in daemon.log
    assert "password authentication failed" in line or "Access denied" in line
