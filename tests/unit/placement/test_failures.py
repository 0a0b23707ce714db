# SPDX-License-Identifier: Apache-2.0
"""What an answer, or none, says: a refusal, an outage, a login or an endpoint that is wrong."""

import json

import pytest
import requests
from keystoneauth1 import exceptions

from tracker_worker.placement import failures
from tracker_worker.placement.api import REFUSED
from tracker_worker.placement.errors import (
    PlacementError,
    PlacementForbidden,
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    ProviderNotFound,
    WrongEndpoint,
)
from tracker_worker.placement.failures import MAX_TEXT, OF_A_PROVIDER, OF_NOTHING, OF_THE_ROOT, Meanings

HTML = b"<html><h1>something\nelse</h1></html>"
PLACEMENTS = json.dumps({"errors": [{"code": "placement.undefined_code", "detail": "no"}]}).encode()
NESTED = b'{"more": ' + b"[" * 100_000
"""JSON that is nested too deeply to be read."""
KEYSTONES = json.dumps({"error": {"code": 400, "message": "no", "title": "Bad Request"}}).encode()


def error_of(status: int, body: bytes, meanings: Meanings = OF_A_PROVIDER) -> PlacementError:
    response = requests.Response()
    response.status_code, response.reason, response._content = status, "Reason", body
    return failures.error_of("GET /resource_providers", response, meanings, ())


@pytest.mark.parametrize("status", [400, 403, 413])
def test_only_placements_own_error_is_a_refusal(status: int) -> None:
    assert isinstance(error_of(status, PLACEMENTS), PlacementRefused)
    for body in (HTML, KEYSTONES, b"", b"{}", b'{"errors": []}', NESTED):
        error = error_of(status, body)
        assert type(error) is PlacementUnavailable
        assert "not Placement's" in str(error)


def test_placements_403_says_which_role_the_user_needs() -> None:
    error = error_of(403, PLACEMENTS)
    assert (type(error), error.code) == (PlacementForbidden, "placement_refused")
    assert failures.outcome_of(error) == REFUSED
    assert str(error).startswith("GET /resource_providers: 403 no; the user of [placement] needs the role")


def test_code_of_placements_errors_is_named_unless_it_says_nothing() -> None:
    assert "undefined_code" not in str(error_of(400, PLACEMENTS))
    other = PLACEMENTS.replace(b"undefined_code", b"query.bad_value")
    assert "400 placement.query.bad_value no" in str(error_of(400, other))


def test_placements_own_406_is_a_refusal() -> None:
    assert type(error_of(406, PLACEMENTS)) is PlacementRefused


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_answer_of_an_overloaded_service_or_a_proxy_is_an_outage(status: int) -> None:
    assert type(error_of(status, HTML)) is PlacementUnavailable


@pytest.mark.parametrize("body", [HTML, PLACEMENTS, b""])
def test_rejected_login_is_named_with_its_options(body: bytes) -> None:
    error = error_of(401, body)
    assert type(error) is PlacementUnauthorized
    assert error.code == "placement_unauthorized"
    assert "[placement] username, password" in str(error)


def test_root_that_wants_a_login_is_not_placements() -> None:
    assert type(error_of(401, HTML, OF_THE_ROOT)) is WrongEndpoint


@pytest.mark.parametrize("status", [300, 404, 405, 406, 410, 415, 422])
@pytest.mark.parametrize("body", [HTML, KEYSTONES, b""])
def test_answer_of_another_service_is_a_wrong_endpoint(status: int, body: bytes) -> None:
    error = error_of(status, body)
    assert type(error) is WrongEndpoint
    assert error.code == "placement_wrong_endpoint"
    assert "[placement] endpoint_override" in str(error)


def test_placements_own_404_is_about_the_provider_if_the_path_has_one_and_else_a_wrong_path() -> None:
    """Whatever is asked below a URL that is too long, Placement knows no such path."""
    assert type(error_of(404, PLACEMENTS)) is ProviderNotFound
    assert type(error_of(404, PLACEMENTS, OF_NOTHING)) is WrongEndpoint


def test_body_of_another_service_is_a_wrong_endpoint() -> None:
    assert type(failures.unreadable("GET /", ValueError("no JSON"), ())) is WrongEndpoint


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.Unauthorized("no"), PlacementUnauthorized),
        (exceptions.Forbidden("locked"), PlacementUnauthorized),
        (exceptions.BadRequest("no such domain"), PlacementUnauthorized),
        (exceptions.AuthorizationFailure("no"), PlacementUnauthorized),
        (exceptions.EndpointNotFound("no region"), WrongEndpoint),
        (exceptions.EmptyCatalog("nothing"), WrongEndpoint),
        (exceptions.NotFound("auth_url"), WrongEndpoint),
        (exceptions.ServiceUnavailable("503"), PlacementUnavailable),
        (exceptions.ConnectFailure("no route"), PlacementUnavailable),
        (exceptions.RequestTimeout("408"), PlacementUnavailable),
        (exceptions.TooManyRequests("429"), PlacementUnavailable),
        (exceptions.DiscoveryFailure("no versions"), WrongEndpoint),
        (exceptions.MethodNotAllowed("auth_url"), WrongEndpoint),
        (exceptions.NotAcceptable("auth_url"), WrongEndpoint),
        (exceptions.InvalidResponse(requests.Response()), WrongEndpoint),
        (exceptions.MissingAuthPlugin("no plugin"), WrongEndpoint),
        (exceptions.MissingRequiredOptions([]), PlacementUnauthorized),
        (exceptions.OptionError("no username"), PlacementUnauthorized),
        (Exception("password is a required attribute"), PlacementUnauthorized),
        (OSError("ca.pem"), PlacementUnavailable),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_error_of_keystoneauth_is_told_by_its_class(
    raised: Exception, expected: type[PlacementError]
) -> None:
    assert type(failures.unanswered("GET /", raised, ())) is expected


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (exceptions.NotFound("404"), WrongEndpoint),
        (exceptions.MethodNotAllowed("405"), WrongEndpoint),
        (exceptions.DiscoveryFailure("a page, not versions"), WrongEndpoint),
        (exceptions.ConnectFailure("refused"), PlacementUnavailable),
        (exceptions.ConnectTimeout("10 s"), PlacementUnavailable),
        (exceptions.SSLError("expired"), PlacementUnavailable),
        (exceptions.ServiceUnavailable("503"), PlacementUnavailable),
        (exceptions.Forbidden("403 of a proxy"), PlacementUnavailable),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_discovery_that_fails_is_told_by_its_cause(
    cause: exceptions.ClientException, expected: type[PlacementError]
) -> None:
    error = exceptions.DiscoveryFailure("Could not find versioned identity endpoints")
    error.__context__ = cause
    assert type(failures.unanswered("GET /", error, ())) is expected


def test_way_out_stays_where_the_text_is_cut() -> None:
    error = failures.unanswered("GET /", exceptions.Unauthorized("x" * 2000), ())
    assert len(str(error)) <= MAX_TEXT
    assert str(error).endswith(PlacementUnauthorized.way_out)
