# SPDX-License-Identifier: Apache-2.0
"""Nova's resource tracker as a message-bus worker."""
