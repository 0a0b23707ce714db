# SPDX-License-Identifier: Apache-2.0
"""Placement's view of the nodes: what it shall be, what it was last, and the requests between the two."""
