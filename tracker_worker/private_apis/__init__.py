# SPDX-License-Identifier: Apache-2.0
"""What is private to a library and used here all the same: one module for each library, nothing elsewhere.

tests/unit/private_apis has a test file for each of these modules: it fails when an upgrade of the library
changes what the module uses. tests/unit/test_house_rules.py refuses such uses in any other module.
"""
