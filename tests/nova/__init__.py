# SPDX-License-Identifier: Apache-2.0
"""Nova's own functional tests, run with the adapter in nova-compute's place: tools/test_nova."""
