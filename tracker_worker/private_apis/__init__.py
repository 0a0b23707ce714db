# SPDX-License-Identifier: Apache-2.0
"""All uses of private APIs of libraries, one module for each library.

tests/unit/private_apis has a test file for each of these modules, which fails if an upgrade of the library
changes what the module uses. tests/unit/test_house_rules.py refuses private APIs in any other module.
"""
