# SPDX-License-Identifier: Apache-2.0
"""The commands.

oslo.service binds its threading model at the first import of oslo.messaging: it is chosen here, before that.
oslo still imports eventlet, which warns whoever does; an operator can do nothing about it.
"""

import warnings

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)
