# SPDX-License-Identifier: Apache-2.0
"""NUMA topologies: what an instance requests, how it fits a host, the usage of each host cell."""
