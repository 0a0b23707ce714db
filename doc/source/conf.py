# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "tracker-worker"
copyright = "tracker-worker contributors"

extensions = ["openstackdocstheme", "oslo_config.sphinxext", "reference", "transitions"]
html_theme = "openstackdocs"
