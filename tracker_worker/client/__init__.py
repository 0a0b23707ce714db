# SPDX-License-Identifier: Apache-2.0
"""The parts of rpcapi. They import neither the worker nor its database."""
