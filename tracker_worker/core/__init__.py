# SPDX-License-Identifier: Apache-2.0
"""Pure rules for messages, events, replies and texts, which bus, database, worker and programs share."""
