# SPDX-License-Identifier: Apache-2.0
"""Every fault that one machine can produce, under load, against real servers: delivery is exactly once.

Each test is a load of tests/delivery, faults during it, and one verdict of its oracle. Without
`--chaos` the sizes are those of CI.
"""
