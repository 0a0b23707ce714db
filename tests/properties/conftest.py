# SPDX-License-Identifier: Apache-2.0
"""The properties run on copies of the same migrated database as the functional tests."""

from tests.functional.conftest import empty_database  # noqa: F401
