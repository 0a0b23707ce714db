# SPDX-License-Identifier: Apache-2.0
"""The adapter for nova-compute, which feeds the worker, compares with it, or lets it decide.

Only the program tracker-worker-nova-compute imports this package, in an environment that has Nova.
"""
