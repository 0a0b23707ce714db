# SPDX-License-Identifier: Apache-2.0
"""What differs or fails and is meant to, by a pattern, with the reason; the documentation lists the same."""

import re

DIFFERENCES: dict[str, str] = {}
"""Of mirror: a pattern of "test: node field: value in Nova, value in the worker"."""

FAILURES: dict[str, str] = {
    r"NUMALiveMigrationRollbackTests\.test_bug_1894095_(pre|post)_drop$": (
        "asserts Nova's fault: an audit between failure and rollback counts the destination's pins at the "
        "source. The worker counts the source's."
    ),
    r"ServerMovingTests\.test_evacuate_claim_on_dest_fails_": (
        "makes nova.compute.claims.MoveClaim fail, in whose place replace has a claim of the worker"
    ),
}
"""Of replace: a pattern of the test's name."""


def reason(known: dict[str, str], text: str) -> str | None:
    """Return why this is known, None if it is not."""
    return next((why for pattern, why in known.items() if re.search(pattern, text)), None)
