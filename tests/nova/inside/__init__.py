# SPDX-License-Identifier: Apache-2.0
"""Tests of the adapter that import Nova: `tools/test_nova --inside` runs them in Nova's environment."""
