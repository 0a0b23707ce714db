# SPDX-License-Identifier: Apache-2.0
"""Programs of oslo.messaging alone, to be run in processes of their own: they know nothing of this project.

Each takes a configuration file of oslo.config as its argument, and ends when its standard input does.
"""
