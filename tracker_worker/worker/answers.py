# SPDX-License-Identifier: Apache-2.0
"""Handing answers to deliveries, after the commit."""

import logging

from tracker_worker.core.delivery import Answer, Delivery

LOG = logging.getLogger(__name__)


def send_answer(delivery: Delivery, answer: Answer) -> None:
    """Settle a delivery on the lane's thread. If the reply cannot be sent the caller times out: the event is
    committed all the same.
    """
    try:
        delivery.settle(answer)
    except Exception:
        LOG.exception("A reply could not be sent")
