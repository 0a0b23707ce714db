# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of the tests' own, with the management plugin and maybe TLS; and a cluster of three."""

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Self
from urllib.parse import quote

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from tests.servers.certificates import Certificates
from tests.servers.ports import listens
from tests.servers.server import Server, wait_until

SBIN = Path("/usr/lib/rabbitmq/bin")  # Debian's, without the wrapper that becomes the user rabbitmq

ERLANG_HOME = Path("/usr/lib/erlang")

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
default_user = {username}
default_pass = {password}
# The alarm's default would block publishers on a nearly full disk: not what is tested.
disk_free_limit.absolute = 1MB
# What the management plugin shows is a second old at most: it collects, as often as it keeps samples, what
# the broker's processes have told it since.
collect_statistics_interval = 200
management.sample_retention_policies.global.minute = 1
management.sample_retention_policies.basic.minute = 1
management.sample_retention_policies.detailed.minute = 1
"""
TLS_CONFIGURATION = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {tls.authority}
ssl_options.certfile = {tls.certificate}
ssl_options.keyfile = {tls.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""
CLUSTER_CONFIGURATION = """\
cluster_formation.peer_discovery_backend = classic_config
"""
LOOPBACK_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"
# Two schedulers that do not spin: several brokers share the processors with the tests.
ERLANG = f"{LOOPBACK_DISTRIBUTION} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -noinput"


# It listens a little earlier; a virtual host that is made then may never come to be.
STARTED = b"Server startup complete"


class RabbitMQ(Server):
    """A broker; `start` makes it listen. Its only user is an administrator; new_vhost makes virtual hosts.

    `beside` is another one that it can be clustered with: it shares that one's password, cookie and epmd.
    """

    package = "rabbitmq-server"
    username = "tracker"

    def __init__(self, tls: Certificates | None = None, beside: "RabbitMQ | None" = None) -> None:
        super().__init__()
        self.password: str = beside.password if beside else f"rabbit-secret-{secrets.token_hex(8)}"
        self.port = self._free_port()
        self.tls_port = self._free_port() if tls else None
        self._management_port = self._free_port()
        self.name = f"tracker-{self.port}@localhost"
        self._cookie: str = beside._cookie if beside else secrets.token_hex(20)
        self._owns_epmd = beside is None
        self._epmd_port: int = beside._epmd_port if beside else self._free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        configuration = CONFIGURATION.format(
            port=self.port,
            management_port=self._management_port,
            username=self.username,
            password=self.password,
        )
        if tls:
            configuration += TLS_CONFIGURATION.format(port=self.tls_port, tls=tls)
        (self.directory / "rabbitmq.conf").write_text(configuration)
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        self._environment = os.environ | {
            "HOME": str(self.directory),  # where Erlang keeps its cookie
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the Erlang machine: their pids are one
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CTL_ERL_ARGS": LOOPBACK_DISTRIBUTION,
            "RABBITMQ_DIST_PORT": str(self._free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.directory),  # of the log of upgrades
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which("rabbitmq-server", path=f"{SBIN}:{os.environ.get('PATH', '')}")
        return Path(found) if found else None

    @property
    def management_url(self) -> str:
        """The management API's address, with the credentials."""
        return f"http://{self.username}:{self.password}@{self.host}:{self._management_port}"

    @property
    def address(self) -> str:
        """What names it in a transport URL, with the credentials."""
        return f"{self.username}:{self.password}@{self.host}:{self.port}"

    def url(self, vhost: str) -> str:
        """The `transport_url` of a virtual host."""
        return f"rabbit://{self.address}/{quote(vhost, safe='')}"

    def cluster_with(self, names: Iterable[str]) -> None:
        """Have it form a cluster of the nodes of these names, its own among them, when it first starts."""
        lines = [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, 1)]
        with (self.directory / "rabbitmq.conf").open("a") as file:
            file.write(CLUSTER_CONFIGURATION + "\n".join(lines) + "\n")

    def new_vhost(self) -> str:
        """Make a virtual host that nobody else uses, and return its name."""
        vhost = f"test-{secrets.token_hex(6)}"
        self.api("PUT", f"vhosts/{vhost}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api("PUT", f"permissions/{vhost}/{self.username}", everything)
        return vhost

    def delete_vhost(self, vhost: str) -> None:
        """Delete a virtual host with its queues; the broker closes the connections to it."""
        self.api("DELETE", f"vhosts/{quote(vhost, safe='')}")

    def close_connections(self, vhost: str) -> int:
        """Close the connections to a virtual host, as an operator would; return how many there were.

        The management API does not list one that was opened a moment ago.
        """
        closed = (
            '[ok = rabbit_networking:close_connection(P, "closed by a test") || '
            "P <- rabbit_networking:connections(), "
            f'[{{vhost, <<"{vhost}">>}}] =:= (catch rabbit_networking:connection_info(P, [vhost]))]'
        )
        return int(self.evaluate(f"length({closed})"))

    def lose_consumers(self, vhost: str, name: str) -> None:
        """Take the consumers from a classic queue without a word to their clients, as a fault may."""
        self.evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<"{vhost}">>, queue, <<"{name}">>}}), '
            "[ok = gen_server2:call(amqqueue:get_pid(Q), {basic_cancel, element(1, C), element(2, C), "
            'undefined, <<"test">>}) || C <- rabbit_amqqueue:consumers(Q)]'
        )

    @contextmanager
    def stalled_leader(self, vhost: str, name: str) -> Iterator[None]:
        """Let the leader of a quorum queue stand still, as on a member of the cluster that is overloaded."""
        find = (
            f'{{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<"{vhost}">>, queue, <<"{name}">>}}), '
            "Leader = whereis(element(1, amqqueue:get_pid(Q))), "
        )
        self.evaluate(f"{find} sys:suspend(Leader)")
        try:
            yield
        finally:
            self.evaluate(f"{find} sys:resume(Leader)")

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API below /api/; raise urllib's HTTPError when it refuses."""
        credentials = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        request = urllib.request.Request(
            f"http://{self.host}:{self._management_port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or "null")

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl, which takes a second, and return its output; CalledProcessError when it fails."""
        return self._output(self._program().with_name("rabbitmqctl"), *arguments)

    def evaluate(self, expression: str) -> str:
        """Evaluate Erlang in the broker, at once, and return the text of the result.

        Raises RuntimeError with the text of an error.
        """
        said = self._erl_call("-e", given=f"{expression}.\n")
        if not said.startswith("{ok, "):
            raise RuntimeError(f"{expression}: {said}")
        return said.removeprefix("{ok, ").rstrip().removesuffix("}")

    @retry(retry=retry_if_exception_type(CalledProcessError), stop=stop_after_attempt(3), reraise=True)
    def _erl_call(self, *arguments: str, given: str) -> str:
        # Once in some thousand times it cannot connect, and fails before it has evaluated anything.
        program = max(ERLANG_HOME.glob("erts-*/bin/erl_call"))
        return self._output(program, "-sname", self.name, "-c", self._cookie, *arguments, given=given)

    def _output(self, program: Path, *arguments: str, given: str = "") -> str:
        return subprocess.run(
            [program, *arguments],
            input=given,
            env=self._environment,
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
            timeout=200,
        ).stdout

    def limit_memory(self, share: float) -> None:
        """Set the share of the machine's memory above which it takes no messages.

        With 0 it returns once the alarm is raised, else once it is cleared.
        """
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({float(share)})")
        wait_until(lambda: (self.evaluate("rabbit_alarm:get_alarms()") != "[]") == (share == 0), "the alarm")

    def stop(self) -> None:
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        self.write_down_declarations()
        self.kill_at_once()

    def write_down_declarations(self) -> None:
        """What was declared a moment ago would be lost in a kill: the broker writes it down later."""
        self.evaluate("mnesia:sync_log()")

    def kill_at_once(self) -> None:
        """Kill it without any preparation, which takes a second."""
        self._signal_and_wait(signal.SIGKILL)

    def close(self) -> None:
        super().close()
        if self._epmd:
            self._epmd.wait(30)
            self._epmd = None

    def _launch(self) -> "subprocess.Popen[bytes]":
        if self._owns_epmd and not self._epmd:
            # The machine's own epmd is left alone, and Erlang does not start one that nobody would stop.
            self._epmd = self._spawn("epmd", "-address", self.host, "-port", self._epmd_port)
            self._reaper.watch("KILL", self._epmd.pid)
        wait_until(lambda: listens(self._epmd_port), "Erlang's port mapper")
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        process = self._spawn(self._program(), env=self._environment)
        self._reaper.watch("KILL", process.pid, *self._epmd_pids())
        return process

    def _gone(self) -> None:
        super()._gone()
        if self._epmd:
            self._reaper.watch("KILL", *self._epmd_pids())

    def _epmd_pids(self) -> list[int]:
        return [self._epmd.pid] if self._epmd else []

    def _answers(self) -> bool:
        try:
            self.api("GET", "overview")
        except OSError:
            return False
        return listens(self.port) and STARTED in self.log.read_bytes()[self._log_before :]

    def _program(self) -> Path:
        program = self.program()
        assert program, "look for program() first"
        return program


class Cluster:
    """Three brokers that are one, all their ports on loopback; `with` closes it.

    `url` names all three. A node is killed and started again by itself: `nodes[1].kill_at_once()`.
    """

    def __init__(self) -> None:
        first = RabbitMQ()
        self.nodes = [first, RabbitMQ(beside=first), RabbitMQ(beside=first)]
        for node in self.nodes:
            node.cluster_with(each.name for each in self.nodes)

    def start(self) -> None:
        """Start all nodes at the same time and wait until they are a cluster."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(RabbitMQ.start, self.nodes))
        wait_until(lambda: self.running() == len(self.nodes), "a cluster of all nodes", 60)

    def running(self) -> int:
        """How many nodes belong to the cluster and run."""
        return sum(node["running"] for node in self.api("GET", "nodes"))

    def url(self, vhost: str) -> str:
        """The `transport_url` of a virtual host, on all nodes."""
        return f"rabbit://{','.join(node.address for node in self.nodes)}/{quote(vhost, safe='')}"

    def node(self, name: str) -> RabbitMQ:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def new_vhost(self) -> str:
        """Make a virtual host that nobody else uses, and return its name."""
        return self.nodes[0].new_vhost()

    def api(self, method: str, path: str) -> Any:
        """Call the management API of a node that runs; raise urllib's HTTPError when it refuses."""
        return next(node for node in self.nodes if node.pid).api(method, path)

    def close(self) -> None:
        """End everything that was started and remove the data."""
        for node in reversed(self.nodes):
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
