# SPDX-License-Identifier: Apache-2.0
"""What operators ask of tracker-worker-manage every day, each command in a process of its own."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

import tracker_worker
from tests.builders import (
    BYSTANDER,
    INSTANCE,
    NODE,
    a_flavor,
    a_report,
    an_instance,
    command,
    some_resources,
)
from tests.functional.lanes import OTHER_NODE, LaneBench
from tests.functional.manage import Manage
from tests.functional.terminal import on_terminal
from tests.servers import forkserver
from tests.servers.forkserver import HEEDS_SIGINT
from tracker_worker.cmd.failures import INTERRUPTED
from tracker_worker.cmd.manage import status as status_command
from tracker_worker.cmd.manage.commands import COMMANDS
from tracker_worker.cmd.manage.terminal import LEAST_NEEDED
from tracker_worker.db import leases
from tracker_worker.db.tables import NODES, RECEIPTS
from tracker_worker.domain.objects import Limits

ROOT = Path(tracker_worker.__file__).parents[1]
STEERING = "evil\x1b[2J\u202e[bold]"


class Program:
    """Runs commands on the test's database."""

    def __init__(self, file: Path) -> None:
        self.options = ["--config-file", str(file)]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return forkserver.run("manage", *self.options, *arguments)

    def json(self, *arguments: str) -> Any:
        """The document of a command that goes well."""
        done = self(*arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def column(self, *arguments: str) -> list[str]:
        """The first column of a table in a pipe, without its heading."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return [line.split("  ")[0] for line in done.stdout.splitlines()[1:]]


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def program(engine: sa.Engine, manage: Manage) -> Program:
    return Program(manage.file)


@pytest.fixture
def two_nodes(engine: sa.Engine, bench: LaneBench) -> LaneBench:
    """Two nodes, the second one with an instance."""
    bench.track()
    bench.track(OTHER_NODE)
    bench.send(command("instance_claim", node=OTHER_NODE, instance=an_instance()))
    return bench


@pytest.fixture
def a_quiet_node(two_nodes: LaneBench) -> LaneBench:
    """The first node has had no event for years."""
    with two_nodes.engine.begin() as connection:
        long_ago = sa.func.datetime("2020-01-01 00:00:00.000000")
        connection.execute(sa.update(RECEIPTS).where(RECEIPTS.c.node == NODE).values(recorded_at=long_ago))
    return two_nodes


def set_broken(bench: LaneBench, node: str) -> None:
    with bench.engine.begin() as connection:
        connection.execute(sa.update(NODES).where(NODES.c.name == node).values(vcpus_used=7))


def test_node_list_sorted_by_fullness_has_the_fullest_first(two_nodes: LaneBench, program: Program) -> None:
    assert program.column("node", "list") == [NODE, OTHER_NODE]
    assert program.column("node", "list", "--sort", "fullness") == [OTHER_NODE, NODE]
    fullest, _ = program.json("node", "list", "--sort", "fullness")
    assert fullest["fullness"] == 0.2  # 20 GB of 100: a larger share than that of the vcpus and the memory.


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--host", f"host-of-{OTHER_NODE}"], [OTHER_NODE]),
        (["--disabled"], []),
        (["--broken"], [NODE]),
        (["--older-than", "60"], [NODE]),
        (["--sort", "last_event"], [NODE, OTHER_NODE]),
    ],
)
def test_node_list_with_a_filter_has_the_matching_nodes(
    a_quiet_node: LaneBench, program: Program, options: list[str], found: list[str]
) -> None:
    set_broken(a_quiet_node, NODE)
    assert program.column("node", "list", *options) == found


def test_node_list_with_columns_has_these_in_every_format(two_nodes: LaneBench, program: Program) -> None:
    done = program("node", "list", "--columns", "vms,name")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["vms", "name"],
        ["0", NODE],
        ["1", OTHER_NODE],
    ]
    rows = [{"running_vms": 0, "name": NODE}, {"running_vms": 1, "name": OTHER_NODE}]
    assert program.json("node", "list", "--columns", "vms,name") == rows
    done = program("node", "list", "--columns", "vms,name", "--format", "yaml")
    assert yaml.safe_load(done.stdout) == rows
    done = program("node", "list", "--columns", "name,size")
    assert (done.returncode, "there is no column 'size': choose from name, host" in done.stderr) == (2, True)


def test_outbox_has_what_waits_in_order_and_since_when(two_nodes: LaneBench, program: Program) -> None:
    found = program.json("outbox", "list")
    assert [one["id"] for one in found] == sorted(one["id"] for one in found)
    assert {one["since"] for one in found} == {"2026-11-22T12:00:00Z"}
    assert {one["node"] for one in program.json("outbox", "list", "--node", NODE)} == {NODE}
    done = program("outbox", "list", "--limit", "1")
    assert f"the oldest 1 of {len(found)} notifications" in done.stderr
    stats = program.json("outbox", "stats")
    assert sum(group["notifications"] for group in stats["waiting"]) == len(found)
    assert stats["publisher"] is None
    with two_nodes.engine.begin() as connection:
        leases.acquire(connection, leases.RELAY, "host-1:77:id", 60)
    assert program.json("outbox", "stats")["publisher"] == "host-1:77:id"


def test_config_show_has_values_with_their_files_and_no_secret(manage: Manage, program: Program) -> None:
    manage.configure(
        "use_json = true\n[worker]\nlanes = 1\n[oslo_messaging_notifications]\n"
        "transport_url = rabbit://user:planted@broker:5672/vhost\n[bus]\n"
        "management_url = http://user:planted@broker:15672\n"
        "[database]\nconnection_parameters = charset=utf8mb4&ssl_ca=/ca.pem&password=pla\n"
        "[oslo_messaging_kafka]\nssl_client_key_password = pre://planted\n"
    )
    found = {row["option"]: row for row in program.json("config", "show")}
    source = str(manage.file)
    assert found["[worker] lanes"] == {"option": "[worker] lanes", "value": 1, "source": source}
    assert found["[DEFAULT] use_json"]["value"] is True
    assert found["[bus] management_url"]["value"] == "http://user:***@broker:15672"
    assert (
        found["[oslo_messaging_notifications] transport_url"]["value"]
        == "rabbit://user:***@broker:5672/vhost"
    )
    parameters = found["[database] connection_parameters"]["value"]
    assert parameters == "charset=***&ssl_ca=/ca.pem&password=***"
    assert found["[oslo_messaging_kafka] ssl_client_key_password"]["value"] == "***"
    assert "[tracker] receipt_days" not in found
    done = program("config", "show", "--all")
    assert (done.returncode, "planted" in done.stdout + done.stderr) == (0, False)
    lines = done.stdout.splitlines()
    assert ["[tracker] receipt_days", "7", "default"] in [
        line.split("  ")[0:1] + line.split()[-2:] for line in lines
    ]
    values = lines[0].index("value")
    assert {line[values:].split()[0] for line in lines if line.startswith("[worker] lanes ")} == {"1"}
    assert {line[values:].split()[0] for line in lines if line.startswith("[DEFAULT] use_json ")} == {"true"}
    assert not [line for line in lines if line[values - 1 : values + 1].isspace()]


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("database", "connection", "postgresql://tracker:pa$planted@db/tracker"),
        ("database", "connection_parameters", "password=pa$planted"),
        ("placement", "endpoint_override", "http://user:pa$planted@placement"),
        ("placement", "endpoint_override", "http://user:pa${planted}@placement"),
    ],
)
def test_config_show_quotes_nothing_of_a_value_with_a_dollar(
    manage: Manage, group: str, option: str, value: str
) -> None:
    """oslo.config's error quotes what follows the $, which may be of a password."""
    manage.configure(f"[{group}]\n{option} = {value}\n")
    manage.run("config", "show")
    assert f"[{group}] {option}: write $ as $$" in manage.err
    assert "planted" not in manage.out + manage.err


@pytest.mark.parametrize("command", [("db", "sync"), ("db", "version"), ("db", "purge"), ("node", "list")])
def test_database_with_a_dollar_is_refused_without_its_password(
    manage: Manage, command: tuple[str, ...]
) -> None:
    manage.configure("[database]\nconnection = postgresql://tracker:pa$planted@db/tracker\n")
    assert manage.complaint(*command) == "[database] connection: write $ as $$"


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        ("auth_type = password\npassword = planted\n", "[placement] password"),
        ("auth_type = admin_token\ntoken = planted\n", "[placement] token"),
        (
            "auth_type = v3applicationcredential\napplication_credential_secret = planted\n",
            "[placement] application_credential_secret",
        ),
        ("auth_section = login\n[login]\nauth_type = password\npassword = planted\n", "[login] password"),
    ],
)
def test_config_show_has_the_login_to_placement_without_its_secret(
    manage: Manage, program: Program, login: str, shown: str
) -> None:
    manage.configure(f"[placement]\n{login}")
    done = program("config", "show", "--format", "json")
    assert "planted" not in done.stdout + done.stderr
    assert "unknown" not in done.stderr
    found = {row["option"]: row for row in json.loads(done.stdout)}
    assert found[shown] == {"option": shown, "value": "***", "source": str(manage.file)}


def test_config_show_has_urls_of_placement_without_their_secrets(manage: Manage, program: Program) -> None:
    manage.configure(
        "[placement]\nauth_url = http://user:planted@keystone/v3\n"
        "endpoint_override = http://user:planted@placement\n"
    )
    done = program("config", "show", "--format", "json")
    assert "planted" not in done.stdout + done.stderr
    assert "http://user:***@keystone/v3" in done.stdout
    assert "http://user:***@placement" in done.stdout


def test_config_show_has_the_parameters_of_a_url_that_override_options(
    manage: Manage, program: Program
) -> None:
    manage.configure(
        "[oslo_messaging_notifications]\n"
        "transport_url = rabbit://user:planted@broker/v?ssl=true&ssl_key_file=planted&pla=nted\n"
    )
    found = {row["option"]: row["value"] for row in program.json("config", "show")}
    assert (
        found["[oslo_messaging_notifications] transport_url"]
        == "rabbit://user:***@broker/v?ssl=true&ssl_key_file=***&***"
    )


@pytest.mark.parametrize(
    ("url", "rule"),
    [("http://tracker:planted/x:pw@h:1", "write / as %2F"), ("tracker:planted@host:15672", "looks like")],
)
def test_config_show_says_why_a_url_cannot_be_read(
    manage: Manage, program: Program, url: str, rule: str
) -> None:
    manage.configure(f"[bus]\nmanagement_url = {url}\n")
    found = {row["option"]: row["value"] for row in program.json("config", "show")}
    shown = found["[bus] management_url"]
    assert shown.startswith("a URL that cannot be read: ") and rule in shown
    assert "planted" not in shown


def test_config_show_with_an_invalid_value_names_it_and_fails(manage: Manage, program: Program) -> None:
    manage.configure("[worker]\nlanes = many\n")
    done = program("config", "show")
    assert done.returncode == 1
    assert "[worker] lanes: " in done.stderr


def test_status_of_a_healthy_database_without_a_broker_is_0(two_nodes: LaneBench, program: Program) -> None:
    done = program("status", "--max-wait", "86400", "--format", "json")
    found = json.loads(done.stdout)
    assert (found["database"]["nodes"], found["queues"], found["workers"]) == (2, None, None)
    assert [problem for problem in found["problems"] if "notifications wait" not in problem] == []


def test_status_names_what_needs_a_person_and_fails(a_quiet_node: LaneBench, program: Program) -> None:
    set_broken(a_quiet_node, NODE)
    a_quiet_node.send(command("instance_claim", node="nobody", instance={"uuid": "short"}))
    done = program("status", "--quiet-nodes", "60")
    assert done.returncode == 1
    problems = done.stdout.partition("needs a person\n")[2]
    assert f"the events of broken nodes are held: {NODE}; see 'node rebuild'" in problems
    assert f"nodes without an event for 1:00:00: {NODE}; check their hosts" in problems
    assert "1 events are parked" in problems
    assert "no worker publishes them" in problems
    listed = json.loads(program("status", "--quiet-nodes", "60", "--format", "json").stdout)["problems"]
    words = [problem.split()[1] for problem in listed]
    assert words == ["events", "events", "notifications", "without"]
    assert [line.strip() for line in problems.splitlines() if line.strip()] == listed


def test_status_leaves_out_a_node_in_maintenance(a_quiet_node: LaneBench, program: Program) -> None:
    set_broken(a_quiet_node, NODE)
    options = ["--quiet-nodes", "60", "--except-node", NODE, "--format", "json"]
    listed = json.loads(program("status", *options).stdout)["problems"]
    assert [problem for problem in listed if NODE in problem] == []


def test_status_names_a_database_that_cannot_be_used(manage: Manage, tmp_path: Path) -> None:
    done = Program(manage.file)("status", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["database"]) == (1, None)
    assert "there is no database" in found["problems"][0]


def test_status_watch_draws_again_until_it_is_interrupted(two_nodes: LaneBench, program: Program) -> None:
    with on_terminal("manage", *program.options, "status", "--watch", "1", before=HEEDS_SIGINT) as terminal:
        terminal.read_until("needs a person", 2)
        assert terminal.raw.count("\x1b[2J") >= 2
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_all()
        assert terminal.process.wait(60) == 1
        assert "Traceback" not in terminal.text


def test_status_watch_that_is_interrupted_before_its_first_picture_is_no_success(
    manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(status_command, "_show_once", interrupted)
    assert manage.run("status", "--watch", "1") == INTERRUPTED


def test_table_on_a_terminal_of_80_columns_has_a_line_a_node(two_nodes: LaneBench, program: Program) -> None:
    with on_terminal("manage", *program.options, "node", "list") as terminal:
        lines = terminal.read_all().splitlines()
    assert [line.split()[0] for line in lines] == ["name", NODE, OTHER_NODE]
    assert max(map(len, lines)) <= 80
    assert "\x1b[1m" in terminal.raw


def test_columns_that_were_chosen_are_all_shown_with_whole_ids(
    two_nodes: LaneBench, program: Program
) -> None:
    (first, *_) = program.json("node", "list")
    arguments = ("node", "list", "--columns", "name,uuid,last_event")
    with on_terminal("manage", *program.options, *arguments, columns=40) as terminal:
        lines = [line.split() for line in terminal.read_all().splitlines()]
    assert ["uuid", first["uuid"]] in lines


LONG = "compute-0042.rack-07.zone-east.example.org"


@pytest.fixture
def long_names(bench: LaneBench) -> LaneBench:
    """A node with a long name: tracked, a claim granted, one refused."""
    bench.deliver(a_report(resources=some_resources(host=LONG), node=LONG))
    bench.deliver(command("instance_claim", node=LONG, instance=an_instance()), "granted")
    large = an_instance(BYSTANDER, a_flavor(memory_mb=32768))
    limits = Limits(memory_mb=16384)
    bench.deliver(command("instance_claim", node=LONG, instance=large, limits=limits), "refused")
    bench.run()
    return bench


@pytest.mark.parametrize(
    ("command_line", "head", "left_out"),
    [
        ("node list", "name vcpus memory_mb local_gb vms", "host"),
        (
            "node history NODE",
            "sequence recorded_at method outcome vcpus_used",
            "instance_uuid, changes, memory_mb_used, disk_mb_used, event_id, reason",
        ),
        ("instance show UUID", "node role vcpus memory_mb", "project_id, disk_mb, vm_state"),
        ("instance show UUID", "recorded_at node sequence", "method, outcome, changes, event_id"),
        (
            "node explain NODE",
            "instance_uuid role memory_mb method",
            "project_id, vcpus, disk_mb, since, event_id",
        ),
        ("outbox list", "id event_type node", "since, message_id"),
    ],
)
def test_table_with_long_names_has_a_row_an_object_and_no_name_is_cut_at_80_columns(
    long_names: LaneBench, program: Program, command_line: str, head: str, left_out: str
) -> None:
    arguments = command_line.replace("NODE", LONG).replace("UUID", INSTANCE).split()
    with on_terminal("manage", *program.options, *arguments) as terminal:
        lines = [" ".join(line.split()) for line in terminal.read_all().splitlines()]
        assert max(len(line.rstrip()) for line in terminal.text.splitlines()) <= 80
    assert head in lines
    assert f"no room for {left_out}: --format json has all" in " ".join(lines)
    names = {"instance_uuid": INSTANCE, "sequence": "2 ", "id": "1 ", "recorded_at": "20"}
    name = names.get(head.split()[0], LONG)
    assert any(line.startswith(name) for line in lines[lines.index(head) :])


def test_columns_are_left_out_in_the_documented_order() -> None:
    page = (ROOT / "doc" / "source" / "cli" / "tracker-worker-manage.rst").read_text()
    (listed,) = re.findall(r"leaves\s+out,\s+the\s+first\s+one\s+first:(.*?);", page, re.DOTALL)
    assert tuple(re.findall(r"``(\w+)``", listed)) == LEAST_NEEDED


def test_table_in_a_pipe_has_no_styles_and_no_lines(two_nodes: LaneBench, program: Program) -> None:
    out = program("node", "show", OTHER_NODE).stdout
    assert out.isascii()
    assert "\x1b" not in out
    assert not set(out) & set("|+=")


def test_table_in_a_pipe_is_the_same_whatever_the_width_of_a_terminal(
    two_nodes: LaneBench, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal leaves out columns that it has no room for."""
    tables = []
    for columns in ("20", "1000"):
        monkeypatch.setenv("COLUMNS", columns)
        tables.append(program("node", "list").stdout)
    narrow, wide = tables
    assert narrow == wide
    assert max(map(len, narrow.splitlines())) > 20


@pytest.mark.parametrize("output_format", ["table", "json", "yaml"])
def test_names_that_steer_a_terminal_are_shown_as_text(
    bench: LaneBench, program: Program, output_format: str
) -> None:
    bench.track()
    with bench.engine.begin() as connection:
        connection.execute(sa.update(NODES).values(host=STEERING))
    arguments = [*program.options, "node", "list", "--format", output_format]
    done = program("node", "list", "--format", output_format)
    assert not set(done.stdout) & set("\x1b\u202e")
    assert "[bold]" in done.stdout
    with on_terminal("manage", *arguments) as terminal:
        shown = terminal.read_all()
    assert not {"\x1b[2J", "\u202e"} & set(terminal.raw)
    assert "\x1b[2J" not in terminal.raw
    assert "[bold]" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_has_every_command(program: Program, shell: str) -> None:
    out = program("completion", shell).stdout
    assert all(word in out for command in COMMANDS for word in command.name.split())


def test_completion_of_bash_is_a_script_of_bash(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "completion"
    file.write_text(program("completion", "bash").stdout)
    subprocess.run(["bash", "-n", str(file)], check=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_help_of_each_command_fits_80_columns_and_has_examples(
    manage: Manage, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert manage.run(*command.name.split(), "--help") == 0
    assert f"  tracker-worker-manage {command.name}" in manage.out
    assert "exit status:" in manage.out
    text, _, rest = manage.out.partition("examples:")
    examples, _, rest = rest.partition("\n\n")
    assert [line for line in (text + rest).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    "name", ["db version", "db purge", "node list", "node history", "outbox list", "outbox stats", "status"]
)
def test_documents_have_the_documented_keys(two_nodes: LaneBench, manage: Manage, name: str) -> None:
    (command,) = (command for command in COMMANDS if command.name == name)
    arguments = [NODE] if name == "node history" else []
    manage.run(*name.split(), *arguments, "--format", "json")
    found = json.loads(manage.out)
    rows = found if isinstance(found, list) else [found]
    assert all(set(row) == set(command.columns) for row in rows)
