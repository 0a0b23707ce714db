# SPDX-License-Identifier: Apache-2.0
"""Pure rules about texts and bytes, which the bus, the database and the programs share."""
