# SPDX-License-Identifier: Apache-2.0
"""No program shows a part of a password, wherever in a URL it stands and whether the URL can be read or not.

Each URL is of a template and has a password of planted texts, joined by a character that means something in a
URL, as it stands or percent-encoded. Half of the programs run on a URL in this process with all loggers at
DEBUG, and the other half on others of its template; tests/programs/test_url_secrets.py runs some in
processes of their own.
"""

import contextlib
import io
import itertools
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from oslo_config import cfg

import tracker_worker.cmd  # noqa: F401
from tracker_worker.bus.rabbit.inspection import ManagementUnavailable, activities
from tracker_worker.cmd import bootstrap, manage, status, worker
from tracker_worker.cmd.signals import HANDLED
from tracker_worker.cmd.urls import checked_url
from tracker_worker.core.urls import URLRefused, check_url, printable_url_with_users

# oslo.upgradecheck draws its first table with it. As an error it would take the place of that table.
pytestmark = pytest.mark.filterwarnings("ignore:the 'ALL' constant is deprecated:DeprecationWarning")

PLANTED = ("PLANTED1AB", "90210771", "PLANTED2CD", "PLANTED3EF")
SEPARATORS = "/#?@:,&=%+[]$ ;\\'\"|é"
TRANSPORTS = [
    "rabbit://tracker:{}@127.0.0.1:1/v",
    "rabbit://tracker@realm:{}@127.0.0.1:1/v",
    "rabbit://:{}@127.0.0.1:1/v",
    "rabbit://tracker:{}@[::1]:1/v",
    "rabbit://tracker:{}@127.0.0.1:1,other:{}@127.0.0.1:2/v",
    "rabbit://127.0.0.1:1,tracker:{}@127.0.0.1:2/v",
    "rabbit://tracker:x@127.0.0.1:1/v?ssl_key_password={}",
    "rabbit:tracker:{}@127.0.0.1:1/v",
    "tracker:{}@127.0.0.1:1/v",
    "nope://tracker:{}@127.0.0.1:1/v",
]
DATABASES = [
    "postgresql://tracker:{}@127.0.0.1:1/v",
    "postgresql://tracker@realm:{}@127.0.0.1:1/v",
    "postgresql://127.0.0.1:1/v?user=tracker&password={}",
    "postgresql:///v?host=127.0.0.1&port=1&sslpassword={}&user=tracker",
    "mysql://tracker:{}@127.0.0.1:1/v",
    "mariadb://127.0.0.1:1/v?user=tracker&password={}",
    "mysql://tracker:x@127.0.0.1:1/v?read_timeout={}",
    "sqlite:////nonexistent/v?uri=true&password={}",
    "tracker:{}@127.0.0.1:1/v",
    "nope://tracker:{}@127.0.0.1:1/v",
]
MANAGEMENT = ["http://tracker:{}@127.0.0.1:1", "tracker:{}@127.0.0.1:1"]
FILES = [
    "[DEFAULT]\n  transport_url = {}\n",
    "[DEFAULT]\ntransport_url {}\n",
    "[DEFAULT]\n= {}\n",
    "[{}\n",
]
HALVES = (
    ((worker.run, ()), (manage.run, ("queues", "list"))),
    ((status.run, ("upgrade", "check")), (manage.run, ("db", "version"))),
)
"""The programs. Each half has one that names the option of any URL."""


def passwords() -> Iterator[str]:
    for first, separator in itertools.product((PLANTED[0], PLANTED[1]), SEPARATORS):
        whole = separator.join((first, *PLANTED[2:]))
        yield whole
        yield quote(whole, safe="")


PASSWORDS = list(passwords())


Urls = Callable[[str], list[str]]


def share_of_urls(template: str, share: int) -> list[str]:
    """A template with one in so many of the passwords, each template with others."""
    return [template.replace("{}", password) for password in PASSWORDS[len(template) % 5 :: share]]


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> Urls:
    """A template with a fifth of the passwords, with --quick one in 17, plain and encoded ones."""
    return partial(share_of_urls, share=17 if request.config.getoption("--quick") else 5)


def test_there_are_more_than_300_urls() -> None:
    urls = (share_of_urls(each, 5) for each in (*TRANSPORTS, *DATABASES, *MANAGEMENT))
    assert len(set(itertools.chain.from_iterable(urls))) > 300


COMMON = "[DEFAULT]\nuse_stderr = true\ndebug = true\ndefault_log_levels =\n"
DATABASE = "[database]\nmax_retries = 1\nconnection = postgresql://tracker:x@127.0.0.1:1/v\n"


@pytest.fixture(autouse=True)
def no_last_line_of_defence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program says has no secrets before its log records are searched for them."""
    for module in ("urls", "database"):
        monkeypatch.setattr(f"tracker_worker.cmd.{module}.hide_secrets", lambda secrets: None)


@pytest.fixture(autouse=True)
def kept_process() -> Iterator[None]:
    """Put back what a program sets for its whole process: signals and loggers."""
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    loggers = [(each, each.level, each.handlers[:]) for each in (logging.root, *known)]
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for logger, level, kept in loggers:
        logger.setLevel(level)
        logger.handlers[:] = kept


@pytest.fixture
def shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Runs the programs of a half, the other one every two calls; returns everything that they print and log.

    Passwords alternate between plain and encoded ones: each half has both.
    """
    halves = itertools.cycle((HALVES[0], HALVES[0], HALVES[1], HALVES[1]))
    file = tmp_path / "tracker-worker.conf"
    log = logging.StreamHandler(io.StringIO())

    def show(configuration: str) -> str:
        file.write_text(configuration)
        log.stream.truncate(0)
        for run, arguments in next(halves):
            logging.root.handlers[:] = [log]  # The worker takes all away and logs on standard error.
            logging.root.setLevel(logging.DEBUG)
            with contextlib.suppress(SystemExit):
                run(cfg.ConfigOpts(), ["--config-file", str(file), *arguments])
        return "".join((*capfd.readouterr(), log.stream.getvalue()))

    return show


@pytest.mark.parametrize("template", TRANSPORTS)
@pytest.mark.parametrize("group", ["DEFAULT", bootstrap.NOTIFICATIONS])
def test_transport_url_is_shown_without_its_password(
    shown: Callable[[str], str], urls: Urls, template: str, group: str
) -> None:
    for url in urls(template):
        said = shown(f"{COMMON}{DATABASE}[{group}]\ntransport_url = {url}\n")
        assert not [planted for planted in PLANTED if planted in said], f"{url}:\n{said}"
        assert "transport_url" in said


@pytest.mark.parametrize("template", DATABASES)
def test_database_url_is_shown_without_its_password(
    shown: Callable[[str], str], urls: Urls, template: str
) -> None:
    for url in urls(template):
        said = shown(f"{COMMON}[database]\nmax_retries = 1\nconnection = {url}\n")
        assert not [planted for planted in PLANTED if planted in said], f"{url}:\n{said}"
        assert "connection" in said


@pytest.mark.parametrize("template", FILES)
def test_file_that_cannot_be_parsed_is_named_without_its_line(
    shown: Callable[[str], str], urls: Urls, template: str
) -> None:
    for url in urls(template):
        said = shown(url)
        assert not [planted for planted in PLANTED if planted in said], f"{url}:\n{said}"
        assert "tracker-worker.conf, line" in said


@pytest.mark.parametrize("template", TRANSPORTS)
def test_transport_url_of_replay_is_refused_without_its_password(urls: Urls, template: str) -> None:
    for url in urls(template):
        conf = cfg.ConfigOpts()
        bootstrap.register(conf)
        conf([], project="tracker-worker", default_config_files=[])
        try:
            bootstrap.transports(conf, url)
        except ValueError as error:
            assert str(error).startswith("--transport-url")
            assert not [planted for planted in PLANTED if planted in str(error)], url


@pytest.mark.parametrize("template", DATABASES)
def test_database_of_replay_is_refused_without_its_password(urls: Urls, template: str) -> None:
    for url in urls(template):
        with pytest.raises(ValueError, match="^--database") as error:
            bootstrap.empty_engine(url)
        assert not [planted for planted in PLANTED if planted in str(error.value)], url


@pytest.mark.parametrize("template", [*TRANSPORTS, *DATABASES, *MANAGEMENT])
def test_url_of_the_configuration_is_shown_without_its_password(urls: Urls, template: str) -> None:
    for url in urls(template):
        shown = printable_url_with_users(url, {"ssl", "ssl_key_password"})
        assert not [planted for planted in PLANTED if planted in shown], url


@pytest.mark.parametrize("template", MANAGEMENT)
def test_management_url_is_shown_without_its_password(urls: Urls, template: str) -> None:
    for url in urls(template):
        with pytest.raises((ManagementUnavailable, URLRefused)) as error:
            activities(checked_url("[bus] management_url", url, check_url), "/")
        assert not [planted for planted in PLANTED if planted in str(error.value)], url
