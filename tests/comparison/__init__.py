# SPDX-License-Identifier: Apache-2.0
"""Nova's own rules beside ours on random inputs: tools/compare_nova runs both."""
