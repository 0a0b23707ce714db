# SPDX-License-Identifier: Apache-2.0
"""The client against a worker on fake://: every command, claims as contexts, holds, audits that overtake."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import oslo_messaging
import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_context.context import RequestContext

from tests import samples
from tests.samples import EXAMPLES
from tracker_worker.domain.commands import METHODS
from tracker_worker.exceptions import ComputeResourcesUnavailable, TrackerUnavailable
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.testing import TrackerWorkerFixture
from tracker_worker.worker.service import Worker
from tracker_worker.worker.settings import WorkerSettings

NODE = "compute1"
REPORT = samples.a_report("7c0e3f5a-5d0b-4f5e-9d5c-0a4f6f1f0c11", NODE)
SMALL = samples.a_flavor(1, 1024, 10)
LARGE = samples.a_flavor(4, 4096, 40)
INSTANCE = samples.an_instance("i-1", SMALL, project_id="demo")
MIGRATION = samples.a_migration("m-1", "i-1", dest_node=NODE)
CLAIMS = {
    "instance_claim": (INSTANCE,),
    "resize_claim": (INSTANCE, LARGE, MIGRATION),
    "live_migration_claim": (INSTANCE, MIGRATION | {"type": "live-migration"}),
    "rebuild_claim": (INSTANCE, MIGRATION | {"type": "evacuation"}),
}
CTX: dict[str, Any] = {}

_numbers = itertools.count(1)


@pytest.fixture
def tracker() -> Iterator[TrackerWorkerFixture]:
    with TrackerWorkerFixture(cfg.CONF) as tracker:
        tracker.api.update_available_resource(CTX, NODE, REPORT)
        yield tracker


@pytest.fixture
def api(tracker: TrackerWorkerFixture) -> TrackerAPI:
    return tracker.api


def claims(api: TrackerAPI, node: str = NODE) -> list[tuple[str, str]]:
    return [(claim["instance_uuid"], claim["role"]) for claim in api.get_node(CTX, node)["claims"]]


def told(tracker: TrackerWorkerFixture) -> list[tuple[str, dict[str, Any]]]:
    """All notifications of what was cast so far."""
    last = tracker.api.call(CTX, "build_failed", NODE)["sequence"]
    while True:
        usages = [data for kind, data in notified(tracker) if kind == "compute_node.usage"]
        if any(usage["node"] == NODE and usage["sequence"] >= last for usage in usages):
            return notified(tracker)
        tracker.wait_for_notifications("compute_node.usage", count=len(usages) + 1)


def notified(tracker: TrackerWorkerFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(each["event_type"], each["payload"]["nova_object.data"]) for each in tracker.notifications]


def kinds(tracker: TrackerWorkerFixture) -> set[str]:
    return {kind for kind, _ in told(tracker)}


@pytest.mark.parametrize("method", METHODS)
def test_every_command_has_a_method_that_sends_what_the_worker_reads(
    tracker: TrackerWorkerFixture, method: str
) -> None:
    args = {name: value for name, value in EXAMPLES[method].items() if name not in ("event_id", "origin")}
    if method != "update_available_resource":
        args["node"] = NODE
    try:
        getattr(tracker.api, method)(CTX, **args)
    except ComputeResourcesUnavailable as error:
        assert "Insufficient" in str(error)
    if method == "remove_node":
        tracker.api.update_available_resource(CTX, NODE, REPORT)
    assert "compute_node.event.error" not in kinds(tracker)


@pytest.mark.parametrize("method", METHODS)
def test_every_argument_of_a_command_can_be_given(method: str) -> None:
    fields = set(METHODS[method].__struct_fields__) - {"event_id", "origin"}
    parameters = inspect.signature(getattr(TrackerAPI, method)).parameters.values()
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    assert named - {"self", "context"} == fields or (open_ended and named - {"self", "context"} <= fields)


def test_only_the_request_id_of_a_context_leaves_the_process(tracker: TrackerWorkerFixture) -> None:
    context = RequestContext(auth_token="hunter2", request_id="req-1")
    endpoint = tracker.transport._driver.listen(
        oslo_messaging.Target(exchange="contexts", topic="tracker", server="p0"), 1, None
    )
    api = TrackerAPI(tracker.transport, exchange="contexts", partitions=1)
    api.build_failed(context, NODE)
    (message,) = endpoint._poll_style_listener.poll(timeout=5)
    assert message.ctxt == {"request_id": "req-1"}


def test_what_the_caller_changes_after_a_cast_is_not_sent(
    tracker: TrackerWorkerFixture, api: TrackerAPI
) -> None:
    instance = INSTANCE | {"vm_state": "building", "task_state": "spawning"}
    api.instance_claim(CTX, NODE, instance)
    for state in ["active", "paused", "stopped"] * 10:
        instance["vm_state"] = state
        api.update_usage(CTX, NODE, instance)
    instance["vm_state"] = "no state at all"
    assert "compute_node.event.error" not in kinds(tracker)
    assert api.get_node(CTX, NODE)["stats"]["num_vm_stopped"] == 1


@pytest.mark.parametrize("method", CLAIMS)
def test_a_claim_is_the_reply_and_stays_after_its_block(api: TrackerAPI, method: str) -> None:
    with getattr(api, method)(CTX, NODE, *CLAIMS[method]) as claim:
        assert (claim["outcome"], claim["claim"]["instance_uuid"]) == ("granted", "i-1")
    assert [uuid for uuid, _ in claims(api)] == ["i-1"]


@pytest.mark.parametrize("method", CLAIMS)
def test_an_exception_gives_the_claim_back_and_is_raised_on(api: TrackerAPI, method: str) -> None:
    claim = getattr(api, method)(CTX, NODE, *CLAIMS[method])
    with pytest.raises(RuntimeError, match="no hypervisor"), claim:
        raise RuntimeError("no hypervisor")
    assert claims(api) == []


def test_a_refused_claim_never_enters_the_block(api: TrackerAPI) -> None:
    with (
        pytest.raises(ComputeResourcesUnavailable, match="Free memory"),
        api.instance_claim(CTX, NODE, INSTANCE, limits={"memory_mb": 600}),
    ):
        pytest.fail("entered")
    assert claims(api) == []


def test_a_claim_is_aborted_once(tracker: TrackerWorkerFixture, api: TrackerAPI) -> None:
    with pytest.raises(RuntimeError), api.instance_claim(CTX, NODE, INSTANCE) as claim:
        claim.abort()
        claim.abort()
        raise RuntimeError
    before = api.call(CTX, "build_failed", NODE)["sequence"]
    assert before == 4  # The report, the claim, one abort, and this.


def test_an_abort_is_applied_once_when_it_is_repeated_for_its_lost_confirm(
    api: TrackerAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast, lost = api._link.cast, ["the confirm"]

    def cast_and_lose_a_confirm(*args: Any, **settings: Any) -> None:
        cast(*args, **settings)
        if lost:
            raise TrackerUnavailable(lost.pop())

    monkeypatch.setattr(api._link, "cast", cast_and_lose_a_confirm)
    claim = api.instance_claim(CTX, NODE, INSTANCE)
    with pytest.raises(TrackerUnavailable):
        claim.abort()
    claim.abort()
    assert api.call(CTX, "build_failed", NODE)["sequence"] == 4  # The report, the claim, one abort, and this.


def test_a_claim_that_saved_is_still_given_back(api: TrackerAPI) -> None:
    with pytest.raises(RuntimeError), api.instance_claim(CTX, NODE, INSTANCE) as claim:
        claim.saved()
        raise RuntimeError
    assert claims(api) == []


def test_a_call_within_fewer_seconds_ends_by_then(tracker: TrackerWorkerFixture) -> None:
    patient = TrackerAPI(tracker.transport, exchange=f"nobody-{next(_numbers)}", partitions=1, timeout=600)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        patient.within(0.1).get_node(CTX, NODE)


@pytest.mark.parametrize("method", CLAIMS)
def test_a_claim_that_timed_out_is_given_back_behind_itself(
    engine: sa.Engine, tracker: TrackerWorkerFixture, method: str
) -> None:
    """No worker took it in time; the one that comes later finds the claim and, behind it, its end."""
    exchange = f"late-{next(_numbers)}"
    hasty = TrackerAPI(tracker.transport, exchange=exchange, partitions=1, timeout=1)
    hasty.update_available_resource(CTX, NODE, REPORT)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        getattr(hasty, method)(CTX, NODE, *CLAIMS[method])
    settings = WorkerSettings(host="late", exchange=exchange, partitions=1, notify=False)
    worker = Worker(settings, engine, tracker.transport, tracker.transport, lambda: None)
    worker.start()
    try:
        patient = TrackerAPI(tracker.transport, exchange=exchange, partitions=1, timeout=20)
        view = patient.get_node(CTX, NODE)
    finally:
        worker.stop()
    assert (view["claims"], view["sequence"]) == ([], 3)


def audit(api: TrackerAPI, as_of: int | None, *instances: dict[str, Any]) -> None:
    api.update_available_resource(CTX, NODE, REPORT, instances=list(instances), as_of=as_of)


def test_an_audit_leaves_a_claim_alone_until_it_is_saved(api: TrackerAPI) -> None:
    with api.instance_claim(CTX, NODE, INSTANCE):
        audit(api, api.snapshot())
        assert claims(api) == [("i-1", "instance")]
    audit(api, api.snapshot())
    assert claims(api) == []


def test_a_claim_that_was_saved_counts_at_once(api: TrackerAPI) -> None:
    with api.instance_claim(CTX, NODE, INSTANCE) as claim:
        claim.saved()
        audit(api, api.snapshot())
        assert claims(api) == []


def test_an_audit_leaves_alone_what_a_change_has_cast_and_not_saved(api: TrackerAPI) -> None:
    with api.instance_claim(CTX, NODE, INSTANCE):
        pass
    with api.change():
        api.update_usage(CTX, NODE, INSTANCE | {"vm_state": "deleted"})
        audit(api, api.snapshot(), INSTANCE)
        assert claims(api) == []
    audit(api, api.snapshot())
    assert claims(api) == []


def test_an_audit_without_as_of_corrects_everything(api: TrackerAPI) -> None:
    with api.instance_claim(CTX, NODE, INSTANCE):
        audit(api, None)
        assert claims(api) == []


def test_a_call_holds_snapshots_back_no_longer_than_it_takes(api: TrackerAPI) -> None:
    reply = api.call(CTX, "instance_claim", NODE, instance=INSTANCE)
    assert reply["outcome"] == "granted"
    audit(api, api.snapshot())
    assert claims(api) == []


def test_a_command_that_failed_holds_nothing_back(api: TrackerAPI) -> None:
    with pytest.raises(ComputeResourcesUnavailable):
        api.instance_claim(CTX, NODE, INSTANCE, limits={"vcpu": 0})
    before = api.snapshot()
    assert api.snapshot() > before


def test_an_audit_that_was_overtaken_by_a_newer_one_says_nothing_of_instances(
    tracker: TrackerWorkerFixture, api: TrackerAPI
) -> None:
    """The newer one made the worker forget that the instance was deleted after the older one was read."""
    with api.instance_claim(CTX, NODE, INSTANCE):
        pass
    older = api.snapshot()
    with api.change():
        api.update_usage(CTX, NODE, INSTANCE | {"vm_state": "deleted"})
    audit(api, api.snapshot())
    audit(api, older, INSTANCE)
    assert claims(api) == []
    assert "compute_node.audit" not in kinds(tracker)


def test_one_snapshot_serves_the_audits_of_many_nodes(api: TrackerAPI) -> None:
    other = REPORT | {"uuid": "8c0e3f5a-5d0b-4f5e-9d5c-0a4f6f1f0c11"}
    api.update_available_resource(CTX, "compute2", other)
    for node in (NODE, "compute2"):
        with api.instance_claim(CTX, node, INSTANCE | {"uuid": f"i-{node}"}):
            pass
    as_of = api.snapshot()
    api.update_available_resource(CTX, NODE, REPORT, instances=[], as_of=as_of)
    api.update_available_resource(CTX, "compute2", other, instances=[], as_of=as_of)
    assert claims(api) == claims(api, "compute2") == []
