# SPDX-License-Identifier: Apache-2.0
"""URLs with passwords: which ones are refused, which parts are printable, and which are secret.

Scheme, hosts, ports and the path (a database, a virtual host) are printable. User names are not secret: logs
and errors leave them out, what shows the configuration to an operator does not. If a password has an
unescaped / ? # @ , or : parsers take a part of it for a host, a port or a path. Such a URL is refused before
it is passed to a parser or a driver.
"""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, unquote_plus

MASK = "***"
UNREADABLE = "a URL that cannot be read"
_ESCAPES = "? as %3F, # as %23, @ as %40, : as %3A, [ as %5B, % as %25"
NO_SLASH = "choose one without /, with which oslo.messaging cannot connect, escaped or not"
"""For a user name and a password of RabbitMQ: oslo.messaging's clients do not escape a / again."""
TRANSPORT_ESCAPES = f"{_ESCAPES}; {NO_SLASH}"
"""How to write a password of RabbitMQ."""
TRANSPORT_FORM = "rabbit://user:password@host:port/vhost"
MAX_PORT = 65535
MIN_SECRET = 4
"""Length of the shortest text that `secrets_of` returns: shorter texts are part of too many words."""

_URL = re.compile(r"(?P<scheme>[a-z]\w*(?:[+.-]\w+)*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.I | re.S)
_ADDRESS = re.compile(r"(?:\[[0-9a-f:.]*(?:%\w+)?\]|[\w.,-]*)(?::(?P<port>[0-9]{0,5}))?", re.I)
_DELIMITERS = re.compile(r"[/?#@:,;&=+\[\]\s]+")
_PLAIN_PARAMETERS = frozenset(
    ["host", "hostaddr", "port", "user", "dbname", "unix_socket", "sslmode", "ssl_ca", "sslrootcert"]
)
"""Query parameters that are not secret: errors of drivers contain their values."""
_FLAGS = frozenset(["true", "false"])
"""Values of query parameters that are never secret."""
_ADDRESS_PARAMETERS = ("host", "port", "unix_socket")


class URLRefused(ValueError):
    """A URL that cannot be used. The text is one line: the option, and the rule that the URL breaks."""


class _Advice(NamedTuple):
    """What errors say of one kind of URL: its form, and how to write a / and all characters in a password."""

    form: str
    slash: str
    escapes: str


_ANY = _Advice("scheme://user:password@host:port/name", "write / as %2F", f"/ as %2F, {_ESCAPES}")
_TRANSPORT = _Advice(TRANSPORT_FORM, NO_SLASH, TRANSPORT_ESCAPES)


class _Parts(NamedTuple):
    scheme: str
    authority: str
    rest: str

    @property
    def path(self) -> str:
        return re.split("[?#]", self.rest, maxsplit=1)[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.rest.partition("?")[2], keep_blank_values=True)

    @property
    def is_uniform(self) -> bool:
        """Whether all hosts have a user and a password, or none has."""
        return len({("@" in host, ":" in host.rpartition("@")[0]) for host in self._hosts}) == 1

    @property
    def hosts(self) -> list[tuple[str, str]]:
        """Credentials and address of each host; one pair for all hosts if they share the credentials."""
        split = [host.rpartition("@") for host in (self._hosts if self.is_uniform else [self.authority])]
        return [(credentials, address) for credentials, _, address in split]

    @property
    def _hosts(self) -> list[str]:
        return self.authority.split(",")


def check_transport_url(option: str, url: str) -> None:
    """Check a URL with any number of hosts, each with credentials of its own. Raises URLRefused."""
    parts = _parts(option, url, _TRANSPORT)
    if not parts.is_uniform:
        raise URLRefused(
            f"{option}: all of its hosts need user:password@, or none does; in a password write , as %2C"
        )
    for _, address in parts.hosts:
        _check_address(option, address, _TRANSPORT)


def check_parameters(option: str, url: str, known: Mapping[str, Callable[[str], object]]) -> None:
    """Check the parameters of a URL by their names and by what converts their values. Raises URLRefused.

    The error quotes no value, and a name only if it resembles a known one: any other may be a part of a
    password with an &.
    """
    for number, (name, value) in enumerate(_parts(option, url, _TRANSPORT).query, 1):
        convert = known.get(name)
        if convert is None:
            similar = get_close_matches(name, known, n=1, cutoff=0.8)
            what = f"{name} behind the ? is" if similar else f"parameter {number} behind the ? is"
            hint = f"did you mean {similar[0]}?" if similar else "in a value write & as %26"
            raise URLRefused(f"{option}: {what} no option of [oslo_messaging_rabbit]; {hint}")
        try:
            if value:  # oslo.messaging ignores an empty one.
                convert(value)
        except ValueError:
            raise URLRefused(f"{option}: the value of {name} behind the ? is not valid") from None


def check_url(option: str, url: str) -> None:
    """Check the URL of a database or of an HTTP server, with one pair of credentials. Raises URLRefused.

    It may have several hosts, separated by commas.
    """
    parts = _parts(option, url, _ANY)
    credentials, _, address = parts.authority.rpartition("@")
    if "@" in credentials.partition(":")[2]:
        raise URLRefused(f"{option}: in a password write @ as %40")
    _check_address(option, address, _ANY)


def _parts(option: str, url: str, advice: _Advice = _ANY) -> _Parts:
    match = _URL.fullmatch(url)
    if match is None:
        raise URLRefused(f"{option}: a URL looks like {advice.form}")
    parts = _Parts(*match.group("scheme", "authority", "rest"))
    is_file = parts.scheme.lower().startswith("sqlite") and not parts.authority
    if "@" in parts.rest and not is_file:
        delimiter = parts.rest[0]
        way_out = advice.slash if delimiter == "/" else f"write {delimiter} as %{ord(delimiter):02X}"
        raise URLRefused(
            f"{option}: there is an @ behind the first {delimiter}: for a user name or a password {way_out}; "
            "elsewhere write @ as %40"
        )
    return parts


def _check_address(option: str, address: str, advice: _Advice = _ANY) -> None:
    match = _ADDRESS.fullmatch(address)
    if match is not None and int(match["port"] or 0) <= MAX_PORT:
        return
    host, colon, _ = address.rpartition(":")
    is_port = bool(colon) and _ADDRESS.fullmatch(host) is not None
    wrong = f"its port is no number up to {MAX_PORT}" if is_port else "its host is no host name"
    raise URLRefused(f"{option}: {wrong}; in a user name or a password write {advice.escapes}")


def printable_url(url: str) -> str:
    """Return the printable parts of a URL: scheme, hosts, ports and path. Accepts any text."""
    try:
        parts = _readable(url)
    except URLRefused:
        return UNREADABLE
    elsewhere = [value for key, value in parts.query if key in _ADDRESS_PARAMETERS and "@" not in value]
    where = ",".join(address or ":".join(elsewhere) for _, address in parts.hosts)
    return f"{parts.scheme}://{where}{parts.path}"


def printable_url_with_users(url: str, parameters: Container[str] = ()) -> str:
    """Return a URL with its users and a mask for their passwords: operators look at a configuration with it.

    Of the query, whose options override others, the names in `parameters` are shown: any other may be a part
    of a password with an &. For a URL that cannot be read the text has the rule that it breaks. Accepts any
    text.
    """
    try:
        parts = _readable(url, _TRANSPORT if url.startswith("rabbit") else _ANY)
    except URLRefused as error:
        return f"{UNREADABLE}{error}"
    where = ",".join(_printable_login(credentials) + address for credentials, address in parts.hosts)
    _, _, query = parts.rest.partition("?")
    shown = "&".join(_known_parameter(*part.partition("="), parameters) for part in query.split("&"))
    return f"{parts.scheme}://{where}{parts.path}{query and f'?{shown}'}"


def _readable(url: str, advice: _Advice = _ANY) -> _Parts:
    """Return the parts of a URL. Raises URLRefused without the name of an option."""
    parts = _parts("", url, advice)
    for _, address in parts.hosts:
        _check_address("", address, advice)
    return parts


def _printable_login(credentials: str) -> str:
    user, colon, _ = credentials.partition(":")
    return f"{user}{colon and f':{MASK}'}@" if credentials else ""


def _known_parameter(name: str, equals: str, value: str, known: Container[str]) -> str:
    if name not in known and name not in _PLAIN_PARAMETERS:
        return MASK
    if value in _FLAGS:
        return f"{name}={value}"
    # A host with an @ may have the rest of a password.
    return f"{name}={MASK}" if "%40" in value else _printable_parameter(name, equals, value)


def printable_parameters(text: str) -> str:
    """Return the query parameters of a URL with a mask for each that may be secret. Accepts any text."""
    return "&".join(_printable_parameter(*part.partition("=")) for part in text.split("&"))


def _printable_parameter(name: str, equals: str, value: str) -> str:
    if not equals:  # It may be the rest of a password with an &.
        return MASK if name else ""
    return f"{name}={value if name in _PLAIN_PARAMETERS else MASK}"


def secrets_of(*urls: str | None) -> frozenset[str]:
    """Return the texts that must never be printed: passwords and parameters, verbatim, decoded and in pieces.

    In a URL that cannot be parsed all texts behind the scheme are secret: any may be part of the password. A
    password that equals the name of the user, a host or the database is not secret.
    """
    hidden = {
        form
        for url in urls
        for text in _hidden(url or "")
        for whole in (text, unquote(text), unquote_plus(text))
        for form in (whole, *_DELIMITERS.split(whole))
    }
    return frozenset(form for form in hidden if len(form) >= MIN_SECRET)


def _hidden(url: str) -> Iterator[str]:
    shown = printable_url(url)
    if shown == UNREADABLE:
        yield url.partition("://")[2] or url
        return
    parts = _parts("", url)
    logins = [credentials.partition(":") for credentials, _ in parts.hosts]
    plain = {user for user, _, _ in logins} | {address for _, address in parts.hosts} | {parts.path[1:]}
    values = [value for key, value in parts.query if key not in _PLAIN_PARAMETERS]
    yield from {*(password for _, _, password in logins), *values} - plain


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a text with a mask in place of each secret, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
