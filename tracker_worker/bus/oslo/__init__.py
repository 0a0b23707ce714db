# SPDX-License-Identifier: Apache-2.0
"""Any other transport of oslo.messaging, fake:// above all."""
