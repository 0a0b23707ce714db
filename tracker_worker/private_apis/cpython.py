# SPDX-License-Identifier: Apache-2.0
"""The uses of CPython's private API."""

import sys
import traceback


def stack_of(thread: int) -> str:
    """Return where a thread is, by its identifier: one line a call, the outermost first, without any value.

    Empty for a thread that has ended. Private: `sys._current_frames`; `faulthandler` has no other output
    than a file. Any thread may call it.
    """
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
