# SPDX-License-Identifier: Apache-2.0
"""Handing answers to deliveries, after the commit."""

import logging

from tracker_worker.core.delivery import Answer, Delivery

LOG = logging.getLogger(__name__)


def send_answer(delivery: Delivery, answer: Answer) -> None:
    """Settle a delivery. A reply that cannot be sent is the caller's time-out; the event is committed all the
    same. The lane's thread.
    """
    try:
        delivery.settle(answer)
    except Exception:
        LOG.exception("A reply could not be sent")
