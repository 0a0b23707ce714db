# SPDX-License-Identifier: Apache-2.0
"""PCI devices: which ones the operator makes assignable, requests for them, pools of free ones."""
