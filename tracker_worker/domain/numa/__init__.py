# SPDX-License-Identifier: Apache-2.0
"""NUMA topologies: what an instance asks for, how it fits a host, what claims hold of each host cell."""
