# SPDX-License-Identifier: Apache-2.0
project = "tracker-worker"
copyright = "tracker-worker contributors"

extensions = ["openstackdocstheme", "oslo_config.sphinxext"]
html_theme = "openstackdocs"
