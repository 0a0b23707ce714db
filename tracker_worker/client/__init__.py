# SPDX-License-Identifier: Apache-2.0
"""What rpcapi consists of. It brings neither the worker nor its database with it."""
