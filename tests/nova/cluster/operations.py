# SPDX-License-Identifier: Apache-2.0
"""Operations on servers by Nova's API: asked for many servers at once, then waited for."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from nova.tests.functional.api.client import OpenStackApiException, OpenStackApiNotFoundException

SECONDS = 200
"""An operation may meet an outage, and a claim waits for the worker for [tracker_worker] timeout."""

FAULT_SECONDS = 3
POLL_SECONDS = 0.2
SETTLED_POLLS = 20
"""Nova clears the task of an evacuated server before it names the new host."""

DONE, UNCHANGED, ERROR, STUCK = "done", "unchanged", "ERROR", "stuck"
"""Outcomes. UNCHANGED: Nova has refused it or given up, and the server is as it was."""

_TASK, _HOST = "OS-EXT-STS:task_state", "OS-EXT-SRV-ATTR:host"

Json = dict[str, Any]


class Operations:
    """Does operations and tells of each: `tell` gets a dict for every server and operation.

    `failed` has the ids of servers that are in ERROR or stuck: nothing more can be asked of them.
    """

    def __init__(self, api: Any, tell: Callable[[Json], None]) -> None:
        self.failed: set[str] = set()
        self._api = api
        self._tell = tell

    def boot(self, requests: Sequence[Json]) -> list[Json]:
        """Boot servers, and return those that run. A request is the body of Nova's call."""
        servers = [self._api.post_server({"server": request}) for request in requests]
        return self._settled("boot", servers, lambda was, now: now["status"] == "ACTIVE")

    def resize(self, servers: Sequence[Json], flavors: dict[str, str]) -> list[Json]:
        """Resize servers to the flavor by their id, and return those that wait for a confirmation."""
        return self._act(
            "resize",
            servers,
            lambda server: {"resize": {"flavorRef": flavors[server["id"]]}},
            lambda was, now: now["status"] == "VERIFY_RESIZE",
        )

    def migrate(self, servers: Sequence[Json]) -> list[Json]:
        """Migrate servers, and return those that wait for a confirmation."""
        return self._act(
            "migrate",
            servers,
            lambda server: {"migrate": None},
            lambda was, now: now["status"] == "VERIFY_RESIZE",
        )

    def confirm(self, servers: Sequence[Json]) -> list[Json]:
        """Confirm resizes."""
        return self._act("confirm", servers, lambda server: {"confirmResize": None}, _is_active)

    def revert(self, servers: Sequence[Json]) -> list[Json]:
        """Revert resizes."""
        return self._act("revert", servers, lambda server: {"revertResize": None}, _is_active)

    def live_migrate(self, servers: Sequence[Json]) -> list[Json]:
        """Live-migrate servers to wherever the scheduler says."""
        body = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
        return self._act("live-migrate", servers, lambda server: body, _is_elsewhere)

    def evacuate(self, servers: Sequence[Json]) -> list[Json]:
        """Evacuate servers from a host that is down."""
        return self._act("evacuate", servers, lambda server: {"evacuate": {}}, _is_elsewhere)

    def shelve(self, servers: Sequence[Json]) -> list[Json]:
        """Shelve and offload servers."""
        return self._act(
            "shelve",
            servers,
            lambda server: {"shelve": {}},
            lambda was, now: now["status"] == "SHELVED_OFFLOADED",
        )

    def unshelve(self, servers: Sequence[Json]) -> list[Json]:
        """Unshelve servers."""
        return self._act("unshelve", servers, lambda server: {"unshelve": None}, _is_active)

    def delete(self, servers: Sequence[Json]) -> None:
        """Delete servers."""
        for server in servers:
            self._api.delete_server(server["id"])
        for server in servers:
            deadline = time.monotonic() + SECONDS
            while (now := self._server(server)) is not None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            self._say("delete", server, DONE if now is None else STUCK, now)

    def on(self, servers: Sequence[Json], host: str) -> list[Json]:
        """Return those that run on a host."""
        shown = [self._server(server) for server in servers]
        return [server for server in shown if server and server[_HOST] == host]

    def _act(
        self,
        operation: str,
        servers: Sequence[Json],
        body: Callable[[Json], Json],
        is_done: Callable[[Json, Json], bool],
    ) -> list[Json]:
        begun = []
        for server in servers:
            before = self._api.get_server(server["id"])
            try:
                self._api.post_server_action(server["id"], body(server))
            except OpenStackApiException as error:
                self._say(operation, before, UNCHANGED, {"fault": {"message": str(error)}})
            else:
                begun.append(before)
        return self._settled(operation, begun, is_done)

    def _settled(
        self, operation: str, servers: Sequence[Json], is_done: Callable[[Json, Json], bool]
    ) -> list[Json]:
        """Wait for each server; return those for which the operation was done."""
        done = []
        for server in servers:
            outcome, now = self._wait(server, is_done)
            self._say(operation, server, outcome, now)
            if outcome == DONE:
                done.append(now)
        return done

    def _wait(self, before: Json, is_done: Callable[[Json, Json], bool]) -> tuple[str, Json]:
        deadline = time.monotonic() + SECONDS
        settled = 0
        while time.monotonic() < deadline:
            now = self._api.get_server(before["id"])
            if now["status"] == "ERROR":
                return ERROR, self._with_fault(now)
            if now[_TASK] is None and is_done(before, now):
                return DONE, now
            as_before = now["status"] == before.get("status") != "VERIFY_RESIZE"
            settled = settled + 1 if now[_TASK] is None and as_before else 0
            if settled == SETTLED_POLLS:
                return UNCHANGED, now
            time.sleep(POLL_SECONDS)
        return STUCK, now

    def _with_fault(self, server: Json) -> Json:
        """Return a server in ERROR with its fault, which Nova may save a moment later."""
        deadline = time.monotonic() + FAULT_SECONDS
        while "fault" not in server and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            server = self._api.get_server(server["id"])
        return server

    def _server(self, server: Json) -> Json | None:
        try:
            found: Json = self._api.get_server(server["id"])
        except OpenStackApiNotFoundException:
            return None
        return found

    def _say(self, operation: str, server: Json, outcome: str, now: Json | None) -> None:
        if outcome in (ERROR, STUCK):
            self.failed.add(server["id"])
        line = {"operation": operation, "server": server["id"], "outcome": outcome}
        if outcome != DONE and now is not None:
            fault = now.get("fault", {})
            line |= {"status": now.get("status"), "why": fault.get("message") or self._last_event(server)}
            line |= {"details": fault.get("details", "")}
        self._tell(line)

    def _last_event(self, server: Json) -> str:
        """Return the last line of the traceback in the server's last action."""
        actions = self._api.get_instance_actions(server["id"])
        events = self._api.api_get(
            f"/servers/{server['id']}/os-instance-actions/{actions[0]['request_id']}"
        ).body["instanceAction"]["events"]
        tracebacks = [event["traceback"] for event in events if event.get("traceback")]
        return tracebacks[0].strip().splitlines()[-1] if tracebacks else "no reason is given"


def _is_active(was: Json, now: Json) -> bool:
    return bool(now["status"] == "ACTIVE")


def _is_elsewhere(was: Json, now: Json) -> bool:
    return bool(now[_HOST] != was[_HOST])
