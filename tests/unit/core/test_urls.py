# SPDX-License-Identifier: Apache-2.0
"""Which URLs are refused, and what is shown of the others."""

import pytest

from tracker_worker.core.urls import (
    MASK,
    UNREADABLE,
    URLRefused,
    check_parameters,
    check_transport_url,
    check_url,
    printable_parameters,
    printable_url,
    printable_url_with_users,
    redacted,
    secrets_of,
)

PARAMETERS = {"amqp_durable_queues": int, "ssl": int, "ssl_key_password": str}
TRANSPORT_URLS = [
    "rabbit://",
    "rabbit:///v",
    "fake://",
    "rabbit://host",
    "rabbit://user@host/",
    "rabbit://user:password@host:5672/v",
    "rabbit://user:pass%2Fword@host:5672/%2F",
    "rabbit://user@realm:pass@word@host:5672/v",
    "rabbit://a:x@host-1:5672,b:y@host-2:5672/v",
    "rabbit://host-1:5672,host-2/v",
    "rabbit://user:x@[::1]:5672/v?ssl=1",
    "kombu+memory://",
]
URLS = [
    "sqlite:///tracker.sqlite",
    "sqlite:////srv/a@b/tracker.sqlite",
    "postgresql://user:password@host:5432/tracker",
    "postgresql+psycopg://user@realm:password@host/tracker",
    "postgresql:///tracker?host=/run/postgresql&user=tracker",
    "postgresql://user:x@host-1,host-2/tracker?target_session_attrs=read-write",
    "mysql://user:pass%40word@host/tracker?ssl_ca=/etc/ssl/ca.pem",
    "http://user:password@host:15672",
]


@pytest.mark.parametrize("url", TRANSPORT_URLS)
def test_transport_url_that_is_unambiguous_passes(url: str) -> None:
    check_transport_url("[DEFAULT] transport_url", url)
    assert printable_url(url) != UNREADABLE


@pytest.mark.parametrize("url", URLS)
def test_url_that_is_unambiguous_passes(url: str) -> None:
    check_url("[database] connection", url)
    assert printable_url(url) != UNREADABLE


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("rabbit://user:PART/rest@host:5672/v", "choose one without /"),
        ("rabbit://user:1234/rest@host:5672/v", "choose one without /"),
        ("rabbit://user:PART#rest@host:5672/v", "write # as %23"),
        ("rabbit://user:PART?rest@host:5672/v", "write ? as %3F"),
        ("rabbit://user:PA@RT/rest@host:5672/v", "choose one without /"),
        ("rabbit://user:PA,RT@host:5672/v", "write , as %2C"),
        ("rabbit://user:12,PART,rest@host:5672/v", "write , as %2C"),
        ("rabbit://user:PART", "its port"),
        ("rabbit://user:PART/", "its port"),
        ("rabbit://user:x@host:port/", "its port"),
        ("rabbit://PART:65536/rest", "its port"),
        ("rabbit://PART:12345678/rest", "its port"),
        ("rabbit://user:x@PA[RT/", "no host name"),
        ("user:PART@host:5672/v", "looks like rabbit://"),
        ("rabbit:user:PART@host:5672/v", "looks like"),
        ("PART", "looks like"),
        ("", "looks like"),
    ],
)
def test_transport_url_that_is_ambiguous_is_refused_by_its_rule(url: str, rule: str) -> None:
    with pytest.raises(URLRefused) as error:
        check_transport_url("[DEFAULT] transport_url", url)
    assert str(error.value).startswith("[DEFAULT] transport_url: ")
    assert rule in str(error.value)
    assert "%2F" not in str(error.value)  # oslo.messaging cannot connect with it.
    assert "PA" not in str(error.value) and "RT" not in str(error.value) and "rest" not in str(error.value)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        (
            "amqp_durable_queue=SECRET",
            "amqp_durable_queue behind the ? is no option of [oslo_messaging_rabbit]; "
            "did you mean amqp_durable_queues?",
        ),
        ("ssl=1&amqp_durable_queue", "did you mean amqp_durable_queues?"),
        (
            "ssl_key_password=a&SECRET",
            "parameter 2 behind the ? is no option of [oslo_messaging_rabbit]; in a value write & as %26",
        ),
        ("ssl_key_password=a&SECRET=b", "parameter 2 behind the ?"),
        ("ssl=SECRET", "the value of ssl behind the ? is not valid"),
    ],
)
def test_wrong_parameter_is_refused_without_its_value(query: str, wrong: str) -> None:
    with pytest.raises(URLRefused) as error:
        check_parameters("[DEFAULT] transport_url", f"rabbit://user:SECRET@host/v?{query}", PARAMETERS)
    assert str(error.value).startswith("[DEFAULT] transport_url: ")
    assert wrong in str(error.value)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("query", ["", "?", "?ssl=1", "?ssl=", "?ssl=0&amqp_durable_queues=1"])
def test_known_parameters_with_their_values_are_accepted(query: str) -> None:
    check_parameters("[DEFAULT] transport_url", f"rabbit://user:password@host/v{query}", PARAMETERS)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql://user:SEC@RET@host/tracker", "write @ as %40"),
        ("postgresql://user:SEC/RET@host/tracker", "write / as %2F"),
        ("postgresql://host:5432/tracker?user=tracker&password=SEC@RET", "@ as %40"),
        ("postgresql://user:SECRET", "its port"),
        ("http://user:123/SECRET@host:15672", "write / as %2F"),
    ],
)
def test_url_that_is_ambiguous_is_refused_by_its_rule(url: str, rule: str) -> None:
    with pytest.raises(URLRefused) as error:
        check_url("[database] connection", url)
    assert rule in str(error.value)
    assert "SEC" not in str(error.value) and "RET" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rabbit://user:SECRET@host:5672/v", "rabbit://host:5672/v"),
        ("rabbit://a:SECRET@host-1,b:SECRET@host-2:5673/v", "rabbit://host-1,host-2:5673/v"),
        ("rabbit://user:SECRET@[::1]:5672/v?ssl_key_password=SECRET", "rabbit://[::1]:5672/v"),
        ("postgresql://host/tracker?user=tracker&password=SECRET", "postgresql://host/tracker"),
        ("postgresql:///tracker?host=/run/pg&password=SECRET", "postgresql:///run/pg/tracker"),
        ("sqlite:////var/lib/tracker.sqlite", "sqlite:////var/lib/tracker.sqlite"),
        ("fake://", "fake://"),
        ("rabbit://user:12,SECRET,rest@host/v", "rabbit://host/v"),
        ("postgresql://user:SEC,RET@host-1,host-2/v", "postgresql://host-1,host-2/v"),
        ("rabbit://user:SECRET/rest@host/v", UNREADABLE),
        ("SECRET", UNREADABLE),
    ],
)
def test_printable_url_has_scheme_host_port_and_path_only(url: str, shown: str) -> None:
    assert printable_url(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rabbit://user:SECRET@host:5672/v", "rabbit://user:***@host:5672/v"),
        ("rabbit://a:SECRET@host-1,b:SECRET@host-2:5673/v", "rabbit://a:***@host-1,b:***@host-2:5673/v"),
        ("rabbit://user:@host/v", "rabbit://user:***@host/v"),
        ("rabbit://user:12,SECRET,rest@host/v", "rabbit://user:***@host/v"),
        ("postgresql://user:SEC,RET@host-1,host-2/v", "postgresql://user:***@host-1,host-2/v"),
        ("postgresql://tracker@/tracker?host=/run/pg", "postgresql://tracker@/tracker?host=/run/pg"),
        ("mysql://host/v?host=SEC%40RET", "mysql://host/v?host=***"),
        ("http://host:15672", "http://host:15672"),
    ],
)
def test_printable_url_with_users_has_a_mask_for_each_password(url: str, shown: str) -> None:
    assert printable_url_with_users(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rabbit://host/v?ssl=true", "?ssl=true"),
        ("rabbit://host/v?ssl=0&ssl_key_password=SECRET", "?ssl=***&ssl_key_password=***"),
        ("rabbit://host?ssl_key_password=SEC&RET=true", "?ssl_key_password=***&***"),
        ("rabbit://host/v?SECRET", "?***"),
        ("postgresql://host/tracker?user=tracker&password=SECRET", "?user=tracker&***"),
        ("rabbit://host/v?", ""),
        ("http://host", ""),
    ],
)
def test_query_of_a_url_is_shown_with_the_names_that_are_known(url: str, shown: str) -> None:
    """Found by a newcomer: a TLS that the URL turned on was not to be seen."""
    assert printable_url_with_users(url, PARAMETERS) == url.partition("?")[0] + shown


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://user:SEC/RET:SECRET@host:1", "for a user name or a password write / as %2F"),
        ("rabbit://user:SEC/RET@host/v", "choose one without /"),
        ("user:SECRET@host:15672", "a URL looks like scheme://"),
        ("http://user:SECRET@host:99999", "its port is no number up to 65535"),
        ("SECRET", "a URL looks like scheme://"),
    ],
)
def test_url_that_cannot_be_read_is_shown_with_the_rule_it_breaks(url: str, rule: str) -> None:
    """Found by a newcomer: "a URL that cannot be read" did not say why."""
    shown = printable_url_with_users(url)
    assert shown.startswith(f"{UNREADABLE}: ")
    assert rule in shown
    assert not any(part in shown for part in ("SEC", "RET", "user:SEC"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:PART%2Frest%40more@host:5432/tracker",
        "postgresql://user:PART/rest@more@host:5432/tracker",
        "postgresql://host/tracker?password=PART/rest%40more",
        "user:PART/rest@more@host",
    ],
)
def test_secrets_are_the_password_its_decoded_form_and_its_pieces(url: str) -> None:
    for piece in ("PART", "rest", "more"):
        assert redacted(f"at '{piece}@127.0.0.1'", secrets_of(url)) == f"at '{MASK}@127.0.0.1'"


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ("", ""),
        ("sslmode=require", "sslmode=require"),
        ("host=h&password=x&port=1", "host=h&password=***&port=1"),
        ("password=a&bc&user=u", "password=***&***&user=u"),
        ("password=a=b", "password=***"),
    ],
)
def test_parameters_that_may_be_secret_are_masked_however_short(parameters: str, shown: str) -> None:
    assert printable_parameters(parameters) == shown


def test_secret_is_masked_whole() -> None:
    assert redacted("is PART/rest@more", secrets_of("http://user:PART%2Frest%40more@host")) == f"is {MASK}"


def test_secrets_leave_out_what_may_be_shown_and_what_is_in_every_word() -> None:
    url = "postgresql://tracker:a/b@host/tracker?sslmode=verify-full"
    assert secrets_of(url.replace("a/b", "a%2Fb")) == frozenset(["a%2Fb"])
    assert (
        secrets_of(None, "fake://", "rabbit://guest:guest@host", "mysql://user:nova@host/nova") == frozenset()
    )
