# SPDX-License-Identifier: Apache-2.0
"""A cloud in one process, two workers, a broker and a database that are killed in turn: tools/nova_cluster.

`run`, `scenario`, `cloud`, `operations` and `agreement` are of Nova's environment; the rest is of ours.
"""
