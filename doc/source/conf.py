# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "tracker-worker"
copyright = "tracker-worker contributors"

extensions = ["openstackdocstheme", "oslo_config.sphinxext", "manage_commands", "reference", "transitions"]
html_theme = "openstackdocs"

PROGRAMS = {
    "tracker-worker": "the worker",
    "tracker-worker-manage": "inspect and manage the database, the queues, the nodes and the dead letters",
    "tracker-worker-nova-compute": "a nova-compute that sends what its tracker does to a worker",
    "tracker-worker-replay": "replay recorded traces",
    "tracker-worker-status": "check whether this version can run here",
    "tracker-worker-watch": "watch the notifications of the workers",
}
man_pages = [
    (f"cli/{name}", name, title, "tracker-worker contributors", "1") for name, title in PROGRAMS.items()
]

# reno reads the notes from git's whole history, which a shallow clone and an exported tree do not have. (An
# exported tree may stand in a directory of another repository: then the prefix is not empty.)
history = subprocess.run(
    ["git", "rev-parse", "--is-shallow-repository", "--show-prefix"],
    cwd=HERE.parents[1],
    capture_output=True,
    text=True,
).stdout
extensions.append("reno.sphinxext" if history == "false\n\n" else "release_notes_left_out")
