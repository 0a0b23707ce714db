# SPDX-License-Identifier: Apache-2.0
"""oslo.service binds its threading model when oslo.messaging is first imported; the commands choose it."""

import tracker_worker.cmd  # noqa: F401
