# SPDX-License-Identifier: Apache-2.0
"""Every fault that one machine can produce, under load, against real servers: nothing is lost, nothing twice.

Each test is a load of tests/delivery, faults while it is under way, and one verdict of its oracle. Without
`--chaos` the sizes are those of CI.
"""
