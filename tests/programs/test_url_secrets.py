# SPDX-License-Identifier: Apache-2.0
"""The programs as processes of their own show no part of a password; tests/properties/test_url_secrets.py has
hundreds of URLs.
"""

from pathlib import Path

import pytest

from tests.servers import forkserver

ROOT = Path(__file__).parents[2]
TRACE = next((ROOT / "tracker_worker" / "traces").glob("*.jsonl.gz"))
BROKEN = "rabbit://tracker:PLANTED1/PLANTED2@127.0.0.1:5672/v"
IN_QUERY = "postgresql://127.0.0.1:1/v?user=tracker&password=PLANTED1"
CONFIGURATIONS = {
    "transport": f"[DEFAULT]\ntransport_url = {BROKEN}\n",
    "database": f"[database]\nmax_retries = 2\nretry_interval = 0\nconnection = {IN_QUERY}\n",
}
EXPECTED = {
    "transport": ["[DEFAULT] transport_url: there is an @ behind the first /", "choose one without /"],
    "database": ["[database] connection = postgresql://127.0.0.1:1/v cannot be used", "Connection refused"],
}


def run(program: str, *arguments: object) -> str:
    """Everything that a program prints; it has to fail without a traceback."""
    result = forkserver.run(program, *arguments, merged=True)
    assert result.returncode in (1, 2), result.stdout
    assert "Traceback" not in result.stdout, result.stdout
    return result.stdout


@pytest.mark.parametrize("debug", ["false", "true"])
@pytest.mark.parametrize(
    ("name", "program", "arguments"),
    [
        ("transport", "worker", ()),
        ("transport", "manage", ("queues", "list")),
        ("transport", "status", ("upgrade", "check")),
        ("database", "worker", ()),
        ("database", "manage", ("db", "version")),
        ("database", "status", ("upgrade", "check")),
    ],
)
def test_program_names_the_option_without_its_password(
    tmp_path: Path, name: str, program: str, arguments: tuple[str, ...], debug: str
) -> None:
    file = tmp_path / "tracker-worker.conf"
    file.write_text(f"{CONFIGURATIONS[name]}[DEFAULT]\ndebug = {debug}\nstate_path = {tmp_path}/none\n")
    said = run(program, "--config-file", file, *arguments)
    assert "PLANTED" not in said
    if name == "transport":
        assert "[DEFAULT] transport_url: there is an @ behind the first /" in said
        assert "choose one without /" in " ".join(said.split())
    else:
        assert "[database] connection = postgresql://127.0.0.1:1/v" in " ".join(
            said.replace("|", " ").split()
        )
        assert "Connection refused" in " ".join(said.replace("|", " ").split())


@pytest.mark.parametrize(
    ("option", "url", "answer"),
    [
        ("--transport-url", BROKEN, "--transport-url: there is an @ behind the first /"),
        ("--database", IN_QUERY, "--database postgresql://127.0.0.1:1/v cannot be used: connection failed"),
    ],
)
def test_replay_names_the_option_without_its_password(option: str, url: str, answer: str) -> None:
    said = run("replay", option, url, TRACE)
    assert answer in said
    assert "PLANTED" not in said
