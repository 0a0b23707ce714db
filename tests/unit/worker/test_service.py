# SPDX-License-Identifier: Apache-2.0
"""The ids that a worker gives to commits, notifications and dead letters."""

import uuid

from tracker_worker.worker.service import new_id


def test_new_id_is_a_random_uuid_in_its_usual_text() -> None:
    ids = [new_id() for _ in range(1000)]
    found = [uuid.UUID(each) for each in ids]
    assert [str(each) for each in found] == ids
    assert {(each.version, each.variant) for each in found} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == len(ids)
