# SPDX-License-Identifier: Apache-2.0
"""The commands.

oslo.service binds its threading model at the first import of oslo.messaging: it is chosen here, before that.
oslo still imports eventlet, which warns whoever does; an operator can do nothing about it.
"""

import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

if find_spec("sqlalchemy") is None:  # oslo.messaging brings a part of the rest.
    raise SystemExit(
        "only the client is installed: pip install 'tracker-worker[worker]', or its extra of a database"
    )

from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)
