# SPDX-License-Identifier: Apache-2.0
"""Who has asked for what a command changes: the request id of an operator's event.

It is in the event's receipt, in its notification and in front of the worker's log lines, where the request id
of OpenStack is for an event of a compute manager.
"""

import getpass
import os
import re
import socket

MAX_LENGTH = 64
"""Of the columns for request ids."""


def request_of_operator() -> str:
    """Return manage:USER@HOST, of the user behind sudo if there is one. Other characters are replaced."""
    request = f"manage:{os.environ.get('SUDO_USER') or _user()}@{socket.gethostname()}"
    return re.sub("[^!-~]", "?", request)[:MAX_LENGTH]


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # In a container, users may have no names.
        return str(os.getuid())
