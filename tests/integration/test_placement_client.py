# SPDX-License-Identifier: Apache-2.0
"""Each request to a real Placement, on both of its databases, and each way in which one fails."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session
from msgspec.structs import replace

from tests.integration.placement_clients import Observed, a_uuid, allocate, client_of
from tests.servers.http_traffic import HTTPTraffic
from tests.servers.placement import Placement
from tests.servers.ports import LOOPBACK, Port
from tests.servers.proxy import Proxy
from tracker_worker.placement.api import PlacementApi, ProviderRow
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.errors import (
    DuplicateProvider,
    GenerationConflict,
    InventoryInUse,
    PlacementError,
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    ProviderInUse,
    ProviderNotFound,
    WrongEndpoint,
)
from tracker_worker.placement.records import Allocation, ConsumerAllocations, Inventory

VCPU = {"VCPU": Inventory(8)}
SECRET = "a-secret-of-the-test"


@pytest.fixture(scope="module", params=["placement", "placement_on_postgresql"])
def server(request: pytest.FixtureRequest) -> Placement:
    found: Placement = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def client(server: Placement, observed: Observed) -> PlacementClient:
    return client_of(server.url, observed)


@pytest.fixture
def node(client: PlacementClient, observed: Observed) -> str:
    """A provider, of generation 0."""
    uuid = a_uuid()
    client.create(uuid, f"node-{uuid}", None)
    observed.outcomes.clear()
    return uuid


def stock(client: PlacementClient, node: str) -> int:
    """Give a provider an inventory; return its generation."""
    return client.put_inventories(node, 0, VCPU)


def text_of(caught: pytest.ExceptionInfo[PlacementError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_client_has_all_requests(client: PlacementClient) -> None:
    api: PlacementApi = client
    api.named("any")


def test_placement_of_yoga_or_later_is_taken(client: PlacementClient, observed: Observed) -> None:
    client.check_version()
    assert observed.outcomes == ["ok"]


def test_provider_is_created_renamed_found_and_deleted(client: PlacementClient, observed: Observed) -> None:
    uuid, name = a_uuid(), f"node-{a_uuid()}"
    assert client.tree(uuid) == []
    assert client.named(name) is None
    assert client.create(uuid, name, None) == 0
    row = ProviderRow(uuid, name, 0)
    assert client.tree(uuid) == [row]
    assert client.named(name) == row
    assert client.rename(uuid, f"{name}-a", None) == 0
    assert client.named(name) is None
    assert client.rename(uuid, uuid, None) == 0
    client.delete(uuid)
    assert client.tree(uuid) == []
    assert set(observed.outcomes) == {"ok"}
    assert len(observed.seconds) == 10


def test_child_is_renamed_and_moved(client: PlacementClient, node: str) -> None:
    first, second = a_uuid(), a_uuid()
    client.create(first, f"pf-{first}", node)
    client.create(second, f"pf-{second}", node)
    client.rename(second, f"vf-{second}", first)
    assert {each.uuid: (each.name, each.parent) for each in client.tree(second)} == {
        node: (f"node-{node}", None),
        first: (f"pf-{first}", node),
        second: (f"vf-{second}", first),
    }
    client.rename(second, f"vf-{second}", None)
    assert [each.uuid for each in client.tree(second)] == [second]


def test_inventories_come_back_as_they_were_put(client: PlacementClient, node: str) -> None:
    inventories = {
        "VCPU": Inventory(64, reserved=2, max_unit=64, allocation_ratio=4.0),
        "MEMORY_MB": Inventory(1024, reserved=1024, min_unit=2, step_size=4, allocation_ratio=1.5),
        "DISK_GB": Inventory(1),
    }
    assert client.put_inventories(node, 0, inventories) == 1
    assert client.inventories(node) == (1, inventories)
    assert client.put_inventories(node, 1, {}) == 2
    assert client.inventories(node) == (2, {})


def test_traits_come_back_as_they_were_put(client: PlacementClient, node: str) -> None:
    custom = "CUSTOM_" + a_uuid().upper().replace("-", "_")
    client.ensure_trait(custom)
    client.ensure_trait(custom)
    assert client.put_traits(node, 0, ["COMPUTE_NODE", custom]) == 1
    assert client.traits(node) == (1, frozenset(["COMPUTE_NODE", custom]))


def test_custom_class_can_be_used_once_it_is_ensured(client: PlacementClient, node: str) -> None:
    custom = "CUSTOM_" + a_uuid().upper().replace("-", "_")
    with pytest.raises(PlacementRefused):
        client.put_inventories(node, 0, {custom: Inventory(1)})
    client.ensure_class(custom)
    client.ensure_class(custom)
    assert client.put_inventories(node, 0, {custom: Inventory(1)}) == 1


def test_aggregates_come_back_as_they_were_put(client: PlacementClient, node: str) -> None:
    aggregates = frozenset([a_uuid(), a_uuid()])
    assert client.put_aggregates(node, 0, aggregates) == 1
    assert client.aggregates(node) == (1, aggregates)


def test_allocations_are_read_from_both_sides_and_taken_away(
    server: Placement, client: PlacementClient, node: str
) -> None:
    stock(client, node)
    assert client.allocations_of(node) == []
    consumer = server.allocate(node, {"VCPU": 3})
    assert client.allocations_of(node) == [Allocation(consumer, {"VCPU": 3})]
    held = client.consumer_allocations(consumer)
    assert held is not None
    assert held.providers == {node: {"VCPU": 3}}
    assert (held.consumer, held.generation, held.consumer_type) == (consumer, 1, "INSTANCE")
    client.put_allocations(ConsumerAllocations(consumer, 1, held.project_id, held.user_id, "INSTANCE", {}))
    assert client.consumer_allocations(consumer) is None


def test_allocations_of_a_consumer_without_a_type_are_taken_away(
    server: Placement, client: PlacementClient, node: str
) -> None:
    """Placement shows the consumers of Nova as "unknown", and refuses this type in a request."""
    stock(client, node)
    consumer = a_uuid()
    allocate(server, consumer, {node: {"VCPU": 3}})
    for providers in ({node: {"VCPU": 1}}, {}):
        held = client.consumer_allocations(consumer)
        assert held is not None
        assert held.consumer_type == "unknown"
        client.put_allocations(replace(held, providers=providers))
    assert client.consumer_allocations(consumer) is None


def test_allocations_of_another_generation_are_a_conflict(
    server: Placement, client: PlacementClient, node: str
) -> None:
    stock(client, node)
    consumer = server.allocate(node, {"VCPU": 3})
    held = client.consumer_allocations(consumer)
    assert held is not None
    stale = ConsumerAllocations(consumer, 0, held.project_id, held.user_id, "INSTANCE", {})
    with pytest.raises(GenerationConflict, match="placement.concurrent_update"):
        client.put_allocations(stale)
    assert client.allocations_of(node)


def test_allocations_above_the_inventory_are_refused(
    server: Placement, client: PlacementClient, node: str
) -> None:
    stock(client, node)
    consumer = server.allocate(node, {"VCPU": 3})
    held = client.consumer_allocations(consumer)
    assert held is not None
    more = ConsumerAllocations(consumer, 1, held.project_id, held.user_id, "INSTANCE", {node: {"VCPU": 9}})
    with pytest.raises(PlacementRefused, match="409"):
        client.put_allocations(more)


Request = Callable[[PlacementClient, str, int], object]
WRITES: dict[str, Request] = {
    "inventories": lambda client, uuid, generation: client.put_inventories(uuid, generation, VCPU),
    "traits": lambda client, uuid, generation: client.put_traits(uuid, generation, ["COMPUTE_NODE"]),
    "aggregates": lambda client, uuid, generation: client.put_aggregates(uuid, generation, [a_uuid()]),
}
READS: dict[str, Request] = {
    "inventories": lambda client, uuid, _: client.inventories(uuid),
    "traits": lambda client, uuid, _: client.traits(uuid),
    "aggregates": lambda client, uuid, _: client.aggregates(uuid),
    "allocations": lambda client, uuid, _: client.allocations_of(uuid),
    "delete": lambda client, uuid, _: client.delete(uuid),
    "rename": lambda client, uuid, _: client.rename(uuid, f"node-{uuid}", None),
}


@pytest.mark.parametrize("what", WRITES)
def test_write_of_another_generation_is_a_conflict_that_names_the_provider(
    client: PlacementClient, observed: Observed, node: str, what: str
) -> None:
    with pytest.raises(GenerationConflict) as caught:
        WRITES[what](client, node, 7)
    assert text_of(caught).startswith(
        f"PUT /resource_providers/{node}/{what}: 409 placement.concurrent_update "
    )
    assert observed.outcomes == ["conflict"]


def test_allocation_of_somebody_else_moves_the_generation(
    server: Placement, client: PlacementClient, node: str
) -> None:
    generation = stock(client, node)
    server.allocate(node, {"VCPU": 1})
    with pytest.raises(GenerationConflict):
        client.put_inventories(node, generation, VCPU)


@pytest.mark.parametrize(
    "request_", [*WRITES.values(), *READS.values()], ids=[*WRITES, *(f"get-{n}" for n in READS)]
)
def test_provider_that_is_not_there_is_not_found(
    client: PlacementClient, observed: Observed, request_: Request
) -> None:
    uuid = a_uuid()
    with pytest.raises(ProviderNotFound) as caught:
        request_(client, uuid, 0)
    assert f"/resource_providers/{uuid}" in text_of(caught)
    assert ": 404 " in text_of(caught)
    assert observed.outcomes == ["not_found"]


def test_class_with_allocations_cannot_go(
    server: Placement, client: PlacementClient, observed: Observed, node: str
) -> None:
    stock(client, node)
    server.allocate(node, {"VCPU": 3})
    generation, _ = client.inventories(node)
    with pytest.raises(InventoryInUse, match="409 placement.inventory.inuse"):
        client.put_inventories(node, generation, {"DISK_GB": Inventory(1)})
    assert observed.outcomes[-1] == "conflict"
    client.put_inventories(node, generation, {"VCPU": Inventory(1, reserved=1)})


def test_provider_with_allocations_or_children_cannot_go(
    server: Placement, client: PlacementClient, observed: Observed, node: str
) -> None:
    child = a_uuid()
    client.create(child, f"pf-{child}", node)
    with pytest.raises(ProviderInUse, match="409 placement.resource_provider.cannot_delete_parent"):
        client.delete(node)
    client.put_inventories(child, 0, VCPU)
    server.allocate(child, {"VCPU": 3})
    with pytest.raises(ProviderInUse, match="409 placement.resource_provider.inuse"):
        client.delete(child)
    assert observed.outcomes[-1] == "conflict"


def test_second_provider_of_a_name_or_a_uuid_is_a_duplicate(
    client: PlacementClient, observed: Observed, node: str
) -> None:
    with pytest.raises(DuplicateProvider, match="409 placement.duplicate_name"):
        client.create(node, f"another-{node}", None)
    with pytest.raises(DuplicateProvider, match="409 placement.duplicate_name"):
        client.create(a_uuid(), f"node-{node}", None)
    other = a_uuid()
    client.create(other, f"node-{other}", None)
    with pytest.raises(DuplicateProvider):
        client.rename(other, f"node-{node}", None)
    assert observed.outcomes == ["conflict", "conflict", "ok", "conflict"]


@pytest.mark.parametrize(
    "request_",
    [
        lambda client, node: client.put_inventories(node, 0, {"CUSTOM_UNKNOWN_TO_ALL": Inventory(1)}),
        lambda client, node: client.put_inventories(node, 0, {"VCPU": Inventory(0)}),
        lambda client, node: client.put_traits(node, 0, ["CUSTOM_UNKNOWN_TO_ALL"]),
        lambda client, node: client.ensure_class("VCPU_OF_OURS"),
        lambda client, node: client.ensure_trait("lower-case"),
        lambda client, node: client.create(a_uuid(), "child", a_uuid()),
        lambda client, node: client.rename(node, "child", a_uuid()),
        lambda client, node: client.rename(node, "loop", node),
        lambda client, node: client.tree("no uuid"),
    ],
    ids=["class", "total", "trait", "ensure-class", "ensure-trait", "parent", "new-parent", "loop", "uuid"],
)
def test_request_that_can_never_succeed_is_refused(
    client: PlacementClient, observed: Observed, node: str, request_: Callable[[PlacementClient, str], object]
) -> None:
    with pytest.raises(PlacementRefused) as caught:
        request_(client, node)
    assert ": 400 " in text_of(caught)
    assert observed.outcomes == ["refused"]


def test_name_with_a_slash_is_no_other_path(client: PlacementClient) -> None:
    with pytest.raises(WrongEndpoint, match="PUT /traits/lower%2Fcase%3F: 404"):
        client.ensure_trait("lower/case?")


def test_user_without_the_role_is_refused(placement: Placement, observed: Observed) -> None:
    with pytest.raises(PlacementRefused) as caught:
        client_of(placement.url, observed, token="nobody").tree(a_uuid())
    assert "GET /resource_providers: 403 " in text_of(caught)
    assert observed.outcomes == ["refused"]


class Tokens(BaseAuthPlugin):
    """Has the next of some tokens each time that one was refused."""

    def __init__(self, *tokens: str) -> None:
        super().__init__()
        self._tokens = list(tokens)

    def get_headers(self, session: Session) -> dict[str, str]:
        return {"X-Auth-Token": self._tokens[0]} if self._tokens[0] else {}

    def invalidate(self) -> bool:
        return bool(self._tokens.pop(0)) or bool(self._tokens)


def test_user_without_a_token_may_try_again(placement: Placement, observed: Observed) -> None:
    with pytest.raises(PlacementUnauthorized) as caught:
        client_of(placement.url, observed, auth=Tokens("", "", "")).tree(a_uuid())
    assert "GET /resource_providers: 401 " in text_of(caught)
    assert observed.outcomes == ["unavailable"]


def test_refused_token_is_replaced_within_the_request(placement: Placement, observed: Observed) -> None:
    assert client_of(placement.url, observed, auth=Tokens("", Placement.admin)).tree(a_uuid()) == []
    assert observed.outcomes == ["ok"]


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The URL of a server that has one answer to everything: of a proxy, say, whose Placement is away."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join()


HTML = "<html><h1>something\nelse</h1></html>"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 409, 408, 413, 429, 500, 502, 503, 504])
def test_answer_that_does_not_tell_of_the_request_may_be_tried_again(status: int, observed: Observed) -> None:
    with answering(status, HTML) as url, pytest.raises(PlacementUnavailable) as caught:
        client_of(url, observed).inventories(a_uuid())
    assert f": {status} " in text_of(caught)
    assert observed.outcomes == ["unavailable"]


@pytest.mark.parametrize("body", [HTML, "{}", "[]", "", '{"inventories": {}}', "\x80", "[" * 100_000])
def test_answer_of_another_service_may_be_tried_again(body: str, observed: Observed) -> None:
    with answering(200, body) as url, pytest.raises(WrongEndpoint, match="not Placement's") as caught:
        client_of(url, observed).inventories(a_uuid())
    text_of(caught)
    assert observed.outcomes == ["unavailable"]


@pytest.mark.parametrize(
    ("versions", "known"),
    [
        ('[{"min_version": "1.0", "max_version": "1.36"}]', "1.0 to 1.36"),
        ('[{"min_version": "1.40", "max_version": "1.50"}]', "1.40 to 1.50"),
        ("[]", "none"),
    ],
)
def test_placement_without_the_microversion_is_refused_in_words(versions: str, known: str) -> None:
    body = f'{{"versions": {versions}}}'
    with answering(200, body) as url, pytest.raises(PlacementRefused) as caught:
        client_of(url).check_version()
    assert text_of(caught) == (
        f"this Placement knows the microversions {known}, and 1.39 is needed: "
        "upgrade it to that of OpenStack Yoga or later"
    )


def test_server_of_something_else_is_no_placement() -> None:
    with answering(200, HTML) as url, pytest.raises(WrongEndpoint, match="GET /: the answer is not"):
        client_of(url).check_version()


def test_path_that_placement_does_not_have_is_a_wrong_endpoint(placement: Placement) -> None:
    client = client_of(f"{placement.url}/elsewhere")
    with pytest.raises(WrongEndpoint, match="GET /: 401"):
        client.check_version()
    with pytest.raises(WrongEndpoint, match=": 404"):
        client.tree(a_uuid())
    with pytest.raises(WrongEndpoint, match=": 404"):
        client.create(a_uuid(), "name", None)


def test_refused_connection_may_be_tried_again(observed: Observed) -> None:
    port = Port()
    with pytest.raises(PlacementUnavailable, match="ConnectFailure: .*Connection refused") as caught:
        client_of(f"http://{LOOPBACK}:{port.number}", observed).tree(a_uuid())
    port.release()
    assert text_of(caught).startswith("GET /resource_providers: ")
    assert observed.outcomes == ["unavailable"]


def test_answer_that_does_not_come_in_time_may_be_tried_again(
    placement: Placement, observed: Observed
) -> None:
    with Proxy(placement.port) as proxy:
        proxy.freeze()
        client = client_of(proxy.through(placement.url), observed, timeout=0.2)
        with pytest.raises(PlacementUnavailable, match="ConnectTimeout: .*timed out"):
            client.tree(a_uuid())
        assert observed.outcomes == ["unavailable"]
        assert observed.seconds[0] >= 0.2
        proxy.thaw()
        assert client.tree(a_uuid()) == []


def test_idle_connection_that_was_cut_is_opened_again(placement: Placement, observed: Observed) -> None:
    with Proxy(placement.port) as proxy:
        client = client_of(proxy.through(placement.url), observed, connect_retries=1)
        for _ in range(3):
            client.tree(a_uuid())
            assert proxy.cut() == 1
        client.tree(a_uuid())
    assert observed.outcomes == ["ok"] * 4


def test_connection_that_is_reset_before_the_answer_may_be_tried_again(
    placement: Placement, observed: Observed
) -> None:
    with Proxy(placement.port, HTTPTraffic) as proxy:
        client = client_of(proxy.through(placement.url), observed)
        proxy.cut_after_commit()
        with pytest.raises(PlacementUnavailable, match="ConnectFailure: .*(reset|closed|aborted)"):
            client.tree(a_uuid())
    assert proxy.cuts == 1


def test_write_whose_answer_was_lost_is_found_by_its_generation(
    placement: Placement, observed: Observed
) -> None:
    node = a_uuid()
    with Proxy(placement.port, HTTPTraffic) as proxy:
        client = client_of(proxy.through(placement.url), observed, connect_retries=1)
        client.create(node, f"node-{node}", None)
        proxy.cut_after_commit(lambda commit: commit.wrote("PUT"))
        with pytest.raises(GenerationConflict):
            client.put_inventories(node, 0, VCPU)
        assert client.inventories(node) == (1, VCPU)
    assert proxy.cuts == 1
    assert observed.outcomes == ["ok", "conflict", "ok"]


def test_stopped_server_may_be_tried_again_until_it_is_back(observed: Observed) -> None:
    with Placement() as own:
        own.start()
        client, node = client_of(own.url, observed), a_uuid()
        client.create(node, f"node-{node}", None)
        for end in (own.stop, own.kill):
            end()
            with pytest.raises(PlacementUnavailable):
                client.tree(node)
            own.start()
            assert len(client.tree(node)) == 1
    assert observed.outcomes == ["ok", "unavailable", "ok", "unavailable", "ok"]


def test_error_has_no_secret(placement: Placement) -> None:
    url = placement.url.replace("://", f"://user:{SECRET}@")
    client = client_of(url, secrets=[SECRET])
    with pytest.raises(PlacementError) as caught:
        client.ensure_class(SECRET)
    assert SECRET not in str(caught.value)
    port = Port()
    gone = client_of(f"http://user:{SECRET}@{LOOPBACK}:{port.number}", secrets=[SECRET])
    with pytest.raises(PlacementUnavailable) as unavailable:
        gone.tree(a_uuid())
    port.release()
    assert SECRET not in str(unavailable.value)


@pytest.mark.parametrize("given", [True, False])
def test_request_id_of_an_event_reaches_placement(placement: Placement, given: bool) -> None:
    request_id = f"req-{a_uuid()}"
    other = "req-no\r\nX-Evil: 1"
    client_of(placement.url, request_id=request_id if given else other).tree(a_uuid())
    logged = placement.log.read_text()
    assert (request_id in logged) == given


def test_long_text_of_a_proxy_is_cut(observed: Observed) -> None:
    detail = "x" * 10_000
    body = f'{{"errors": [{{"code": "placement.undefined_code", "detail": "{detail}"}}]}}'
    with answering(400, body) as url, pytest.raises(PlacementRefused) as caught:
        client_of(url, observed).tree(a_uuid())
    assert len(text_of(caught)) == 500
    assert text_of(caught).endswith("xxx...")
