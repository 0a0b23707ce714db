# SPDX-License-Identifier: Apache-2.0
"""Which limits a session of MariaDB or MySQL is given."""

from tracker_worker.db.sessions import limits_to_set

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


def test_mariadb_defaults_get_a_limit_each():
    assert limits_to_set(MARIADB) == OURS


def test_mysql_is_told_nothing_that_it_does_not_know():
    assert limits_to_set(MYSQL) == {
        "innodb_lock_wait_timeout": 15,
        "lock_wait_timeout": 15,
        "max_execution_time": 25_000,
    }


def test_smaller_limit_stays():
    assert limits_to_set({**MARIADB, "max_statement_time": "0.500000", "lock_wait_timeout": "15"}) == {
        "idle_transaction_timeout": 10,
        "innodb_lock_wait_timeout": 15,
    }
