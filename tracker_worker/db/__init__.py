# SPDX-License-Identifier: Apache-2.0
"""Storage: nodes, receipts and the outbox in SQL, always in one transaction."""
