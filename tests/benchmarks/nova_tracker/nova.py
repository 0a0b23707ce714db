# SPDX-License-Identifier: Apache-2.0
"""Runs Nova's tracker on the messages of one node."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.throughput.exactness import differences
from tests.benchmarks.throughput.figures import Measurement, Run
from tests.benchmarks.throughput.messages import Account, Message, Scenario
from tests.ledger_model import amounts_of, total
from tests.nova.environment import ROOT, Environment

Json = dict[str, Any]

UNREAD = " - reads"
WARM = 5
"""Events before the measured ones."""
DRIVERS = {"mysql": "mysql+pymysql"}
"""By the scheme of a URL, where Nova's environment has not SQLAlchemy's default."""
CONFIGURATION = """\
[DEFAULT]
host = {node}
state_path = {directory}
log_file = nova-compute.log
log_dir = {directory}
transport_url = fake://
reserved_host_memory_mb = 0

[database]
connection = {connection}

[api_database]
connection = sqlite://
"""


def measure(environment: Environment, database: str, run: Run, scenario: Scenario) -> list[Measurement]:
    """Measure the tracker on an empty database, with what it reads and without.

    Raises AssertionError with the end of what it wrote.
    """
    order = order_of(scenario, run.events)
    with tempfile.TemporaryDirectory(prefix="nova-") as directory:
        file = Path(directory) / "nova.conf"
        file.write_text(
            CONFIGURATION.format(node=order["node"], directory=directory, connection=_connection(database))
        )
        ended = subprocess.run(
            [environment.python, "-W", "ignore", "-m", "tests.nova.inside.tracker_cost", str(file)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=json.dumps(order),
            capture_output=True,
            text=True,
            start_new_session=True,  # As the worker has: sessions get equal shares of a busy machine.
        )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return measurements_of(run, order, json.loads(ended.stdout))


def measurements_of(run: Run, order: Json, found: Json) -> list[Measurement]:
    """The tracker's measurement, and, if it has read, one without: what its process wrote."""
    node, whole, reads = order["node"], found["whole"], found["reads"]
    wrong = differences({node: expected_account(order)}, {node: Account(found["account"])})
    all_of_it = Measurement(**asdict(run), **whole, peak_bytes=found["peak_bytes"], wrong=wrong)
    if not reads["seconds"]:
        return [all_of_it]
    rest = {name: whole[name] - reads[name] for name in whole}
    return [all_of_it, replace(all_of_it, contestant=f"{run.contestant}{UNREAD}", **rest)]


def order_of(scenario: Scenario, events: int) -> Json:
    """What Nova's process is told: the arguments of the messages to the scenario's first node."""
    messages = [scenario.message(number * scenario.nodes) for number in range(WARM + events)]
    first, *others = map(args_of, [scenario.first[0], *messages])
    return {"node": first["node"], "first": first, "warm": others[:WARM], "events": others[WARM:]}


def args_of(message: Message) -> Json:
    """The arguments in a message's body."""
    args: Json = json.loads(json.loads(message.body)["oslo.message"])["args"]
    return args


def expected_account(order: Mapping[str, Any]) -> Account:
    """What the node must hold at the end: its first instances, and those that were claimed."""
    claimed = [args["instance"] for args in (*order["warm"], *order["events"]) if "instance" in args]
    held: Sequence[Json] = [*order["first"]["instances"], *claimed]
    used = total(amounts_of(instance["flavor"]) for instance in held)
    return Account(claims=len(held), **{f"{name}_used": amount for name, amount in used._asdict().items()})


def _connection(database: str) -> str:
    scheme, separator, rest = database.partition("://")
    return DRIVERS.get(scheme, scheme) + separator + rest
