# SPDX-License-Identifier: Apache-2.0
"""Which limits a session of MariaDB or MySQL is given."""

from tracker_worker.db.sessions import limits_to_set, mariadb_limits, postgresql_limits

MARIADB = {
    "idle_transaction_timeout": "0",
    "innodb_lock_wait_timeout": "50",
    "lock_wait_timeout": "86400",
    "max_statement_time": "0.000000",
}
MYSQL = {"innodb_lock_wait_timeout": "50", "lock_wait_timeout": "31536000", "max_execution_time": "0"}
OURS = {
    "idle_transaction_timeout": 10,
    "innodb_lock_wait_timeout": 15,
    "lock_wait_timeout": 15,
    "max_statement_time": 25,
}


def test_mariadb_defaults_get_a_limit_each() -> None:
    assert limits_to_set(MARIADB, mariadb_limits()) == OURS


def test_mysql_is_told_nothing_that_it_does_not_know() -> None:
    assert limits_to_set(MYSQL, mariadb_limits()) == {
        "innodb_lock_wait_timeout": 15,
        "lock_wait_timeout": 15,
        "max_execution_time": 25_000,
    }


def test_smaller_limit_stays() -> None:
    found = {**MARIADB, "max_statement_time": "0.500000", "lock_wait_timeout": "15"}
    assert limits_to_set(found, mariadb_limits()) == {
        "idle_transaction_timeout": 10,
        "innodb_lock_wait_timeout": 15,
    }


def test_postgresql_limits_that_are_smaller_stay_and_none_gets_ours() -> None:
    found = {"statement_timeout": "5000", "lock_timeout": "0", "idle_in_transaction_session_timeout": "60000"}
    assert limits_to_set(found, postgresql_limits()) == {
        "lock_timeout": 15_000,
        "idle_in_transaction_session_timeout": 10_000,
    }
