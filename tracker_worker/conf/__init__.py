# SPDX-License-Identifier: Apache-2.0
"""The options: one module an option group, collected by `opts`."""
