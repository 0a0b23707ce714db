# SPDX-License-Identifier: Apache-2.0
"""The commands. oslo.service binds its threading model at the first import of oslo.messaging: it is chosen here."""

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)
