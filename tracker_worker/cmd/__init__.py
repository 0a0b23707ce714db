# SPDX-License-Identifier: Apache-2.0
"""The commands.

The first import of oslo.messaging fixes the backend of oslo.service, so the backend is chosen here, before
that import. A command that does not import oslo.messaging loads no backend. oslo.service also imports
eventlet; operators need not see its deprecation warning.
"""

import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

if find_spec("sqlalchemy") is None:  # oslo.messaging installs some of the other dependencies.
    raise SystemExit(
        "only the client is installed: pip install 'tracker-worker[worker]', or the extra of the database"
    )

from oslo_service import backend  # noqa: E402

backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)
