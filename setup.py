# SPDX-License-Identifier: Apache-2.0
import os
import subprocess

import setuptools


def has_version():
    """pbr takes the version from the PKG-INFO of an sdist, or from git: an exported tree has neither."""
    if os.path.exists("PKG-INFO"):
        return True
    try:
        git = subprocess.run(["git", "describe", "--always"], capture_output=True)
    except FileNotFoundError:
        return False
    return os.path.exists(".git") and git.returncode == 0


if not has_version():
    os.environ.setdefault("PBR_VERSION", "0.0.0")

setuptools.setup(setup_requires=["pbr"], pbr=True)
