# SPDX-License-Identifier: Apache-2.0
"""PCI devices: which the operator lets instances have, what is asked for, what is free."""
