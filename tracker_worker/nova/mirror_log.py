# SPDX-License-Identifier: Apache-2.0
"""What a mirror logs: each difference, and a few lines that show that it compares."""

import logging
from collections import Counter

LOG = logging.getLogger(__name__)

SUMMARY_AUDITS = 60
"""Audits of a node from one summary to the next: an hour with Nova's default interval of a minute."""


class MirrorLog:
    """Logs the comparisons of one host. The sender thread of its casts.

    A line at info follows the first comparison of each node, and a summary of the host every
    SUMMARY_AUDITS audits of a node.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._audits: Counter[str] = Counter()
        self._unanswered = 0
        self._differences = 0

    def compared(self, node: str, differences: list[str]) -> None:
        """Note an audit that was compared."""
        for line in differences:
            LOG.warning("Node %s differs: %s", node, line)
        if node not in self._known:
            self._known.add(node)
            found = f"{len(differences)} fields differ" if differences else "they agree"
            LOG.info("Node %s was compared with the worker's for the first time: %s", node, found)
        self._differences += len(differences)
        self._count(node)

    def unanswered(self, node: str) -> None:
        """Note an audit after which the worker did not return the node."""
        LOG.warning("Node %s was not compared after its audit", node)
        self._unanswered += 1
        self._count(node)

    def _count(self, node: str) -> None:
        self._audits[node] += 1
        if self._audits[node] == SUMMARY_AUDITS:
            audits = self._audits.total()
            LOG.info(
                "Since the last summary: %d audits of %d nodes compared, %d differences, %d not compared",
                audits - self._unanswered,
                len(self._audits),
                self._differences,
                self._unanswered,
            )
            self._audits.clear()
            self._differences = self._unanswered = 0
