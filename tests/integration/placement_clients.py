# SPDX-License-Identifier: Apache-2.0
"""Clients of a Placement, as the tests configure them: without Keystone, in a hurry, and observed."""

import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from keystoneauth1.adapter import Adapter
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token

from tests.servers.placement import Placement
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.http import PlacementHTTP

RETRY_SECONDS = 0.01


@dataclass
class Observed:
    """The outcomes of a client's requests, and how long they took."""

    outcomes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, outcome: str, seconds: float) -> None:
        self.outcomes.append(outcome)
        self.seconds.append(seconds)


def client_of(
    url: str,
    observed: Observed | None = None,
    *,
    token: str = Placement.admin,
    auth: BaseAuthPlugin | None = None,
    timeout: float = 30,
    connect_retries: int = 0,
    secrets: Collection[str] = (),
    request_id: str | None = None,
) -> PlacementClient:
    """A client of the Placement at a URL; `auth` replaces the token."""
    adapter = Adapter(
        Session(timeout=timeout),
        service_type="placement",
        endpoint_override=url,
        auth=auth or Token(url, token),
        connect_retries=connect_retries,
        connect_retry_delay=RETRY_SECONDS,
    )
    observe = Observed() if observed is None else observed
    return PlacementClient(
        PlacementHTTP(adapter, time.monotonic, observe, secrets=secrets, request_id=request_id)
    )


def allocate(placement: Placement, consumer: str, held: Mapping[str, Mapping[str, int]]) -> None:
    """Allocate for a new consumer as Nova 34 does: it has no type."""
    body = {
        "allocations": {provider: {"resources": resources} for provider, resources in held.items()},
        "consumer_generation": None,
        "project_id": a_uuid(),
        "user_id": a_uuid(),
    }
    nova = Adapter(
        Session(),
        service_type="placement",
        endpoint_override=placement.url,
        auth=Token(placement.url, placement.admin),
        default_microversion="1.36",
    )
    nova.put(f"/allocations/{consumer}", json=body)


def a_uuid() -> str:
    """One that no other test has."""
    return str(uuid.uuid4())
