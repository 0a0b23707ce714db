# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-status: checks whether this version can run with the configuration, database and broker.

It changes nothing.
"""

import sys
from collections.abc import Callable
from functools import cached_property, wraps
from importlib.metadata import version
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck
from oslo_upgradecheck.upgradecheck import Code, Result

from tracker_worker.bus.rabbit import inspection, permissions
from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.inspection import Activities
from tracker_worker.bus.rabbit.permissions import BrokerAlarm
from tracker_worker.bus.rabbit.queues import TopologyMismatch, notification_queue
from tracker_worker.cmd import bootstrap, misconfiguration, sharing
from tracker_worker.cmd.broker import connected, try_to_publish
from tracker_worker.cmd.command_line import configuration_first, is_debug
from tracker_worker.cmd.database import database_text
from tracker_worker.cmd.failures import (
    CommandFailed,
    configuration_text,
    exit_code_of,
    log_to_stderr,
    reading_options,
)
from tracker_worker.cmd.manage.broker_state import (
    is_same_broker,
    known_alarm,
    management_state,
    topology_of,
)
from tracker_worker.cmd.manage.session import engine_at_head, snapshot
from tracker_worker.cmd.unknown_options import unknown_options
from tracker_worker.core.envelope import REPLY_QUEUE_PREFIX
from tracker_worker.core.records import PARKED
from tracker_worker.core.terminal import escaped
from tracker_worker.core.urls import printable_url
from tracker_worker.db import dead_letter_queries, providers, queries
from tracker_worker.db import permissions as write_permissions
from tracker_worker.db.dead_letter_queries import Wanted
from tracker_worker.db.errors import DATABASE_ERRORS, is_write_refused
from tracker_worker.placement.errors import PlacementError, PlacementUnavailable
from tracker_worker.worker.settings import WorkerSettings

PROGRAM = "tracker-worker-status"


def _escape_details(check: Callable[["Checks"], Result]) -> Callable[["Checks"], Result]:
    """Escape control characters in the details of a check: they quote names and errors from elsewhere."""

    @wraps(check)
    def with_escaped_details(checks: "Checks") -> Result:
        result = check(checks)
        return Result(result.code, result.details and escaped(result.details))

    return with_escaped_details


class Checks(upgradecheck.UpgradeCommands):
    """The checks, in the order in which an operator corrects what they find."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def configuration(self) -> Result:
        """All options are known and consistent, and compute managers can reach the worker."""
        try:
            settings = self._settings()
            failures = unknown_options(self._conf)
        except (ValueError, cfg.Error) as error:
            return Result(Code.FAILURE, configuration_text(error))
        failures += misconfiguration.unwritable_log(self._conf, "tracker-worker")
        warnings = misconfiguration.unreachable(self._conf)
        if not misconfiguration.is_transport_configured(self._conf):
            failures, warnings = failures + warnings, []
        warnings += misconfiguration.without_effect(self._conf)
        if settings.broker is not None:
            warnings += _refused_clients(settings.broker)
        if failures or warnings:
            return Result(Code.FAILURE if failures else Code.WARNING, "; ".join(failures + warnings))
        return Result(Code.SUCCESS)

    def schema(self) -> Result:
        """The schema is that of this version, the encoding is UTF-8, and the user may write."""
        try:
            with engine_at_head(self._conf) as engine:
                try:
                    write_permissions.try_writing(engine)
                except DATABASE_ERRORS as error:
                    if is_write_refused(error):
                        raise
                    # Most likely a session has locked a table: workers wait for the lock.
                    text = database_text(self._conf, error)
                    return Result(Code.WARNING, f"It is unknown whether the user may write: {text}")
        except CommandFailed as error:
            return Result(Code.FAILURE, str(error))
        return Result(Code.SUCCESS)

    def queues(self) -> Result:
        """Exchange and queues of commands are declared as workers declare them, and a worker may use them."""

        def check(settings: WorkerSettings) -> Result:
            if settings.broker is None:
                return Result(Code.SUCCESS, "There is no broker: [DEFAULT] transport_url names no RabbitMQ")
            topology = topology_of(settings, settings.broker)
            with connected(settings.broker) as connection:
                missing = inspection.compare(connection, topology)
                permissions.try_consuming(connection, (queue.name for queue in topology.queues()))
            self._try_to_publish(settings.broker, "", [REPLY_QUEUE_PREFIX], "[DEFAULT] transport_url")
            if missing:
                return Result(
                    Code.WARNING,
                    f"Missing: {', '.join(missing)}. A worker declares them when it starts, and so does "
                    "'tracker-worker-manage queues declare'",
                )
            return Result(Code.SUCCESS)

        return self._on_broker(check)

    def notifications(self) -> Result:
        """The exchange and queues of notifications are declared as configured, and a worker may publish."""

        def check(settings: WorkerSettings) -> Result:
            broker, exchange = settings.notification_broker, settings.notification_exchange
            if broker is None or not settings.notify:
                return Result(Code.SUCCESS, "Notifications are off, or their transport_url names no RabbitMQ")
            keys = [f"{settings.notification_topic}.{priority}" for priority in ("info", "error")]
            own = self._conf[bootstrap.NOTIFICATIONS].transport_url
            option = f"[{bootstrap.NOTIFICATIONS if own else 'DEFAULT'}] transport_url"
            with connected(broker, option=option) as connection:
                queues = [notification_queue(broker, exchange, key) for key in keys]
                inspection.compare_notifications(connection, queues)
            self._try_to_publish(broker, exchange, keys, option)
            return Result(Code.SUCCESS)

        return self._on_broker(check)

    def management(self) -> Result:
        """The management API at [bus] management_url can be used; a worker does without it."""

        def check(settings: WorkerSettings) -> Result:
            if settings.broker is None:
                return Result(Code.SUCCESS, "There is no broker: [DEFAULT] transport_url names no RabbitMQ")
            if not misconfiguration.is_set(self._conf, "bus", "management_url"):
                where = printable_url(inspection.management_url(settings.broker))
                return Result(
                    Code.SUCCESS,
                    "Not checked: [bus] management_url is not set. To check it, run 'tracker-worker-manage "
                    f"status', which asks the API at {where} then, as does 'queues list'",
                )
            _, unknown = self._management
            if unknown is None:
                return Result(Code.SUCCESS)
            users = "'tracker-worker-manage status' and 'queues list'"
            return Result(Code.WARNING, f"{unknown}; {users} cannot tell who is active")

        return self._on_broker(check)

    @cached_property
    def _management(self) -> tuple[Activities | None, str | None]:
        """What the management API says, or why it says nothing. Asked once: it may not answer."""
        broker = self._settings().broker
        return (None, None) if broker is None else management_state(self._conf, broker)

    def _try_to_publish(
        self, broker: BrokerSettings, exchange: str, routing_keys: list[str], option: str
    ) -> None:
        """Raise CommandFailed if the user may not publish, and BrokerAlarm, without a try, in an alarm."""
        own = self._settings().broker
        known, _ = self._management
        if own is not None and is_same_broker(own, broker) and (alarm := known_alarm(broker, known)):
            raise BrokerAlarm(alarm)
        try_to_publish(broker, exchange, routing_keys, option)

    def _on_broker(self, check: Callable[[WorkerSettings], Result]) -> Result:
        try:
            return check(self._settings())
        except (ValueError, cfg.Error):
            return Result(Code.WARNING, "Not checked: the configuration cannot be used")
        except (CommandFailed, TopologyMismatch) as error:
            return Result(Code.FAILURE, str(error))
        except BrokerAlarm as alarm:
            return Result(Code.WARNING, str(alarm))

    def parked(self) -> Result:
        """No dead letter is parked."""
        try:
            with snapshot(self._conf) as connection:
                parked = dead_letter_queries.count(connection, Wanted(PARKED))
        except CommandFailed:
            return Result(Code.WARNING, "Not checked: see the database's schema")
        if parked:
            return Result(
                Code.WARNING,
                f"Parked events: {parked}. See 'tracker-worker-manage dead-letter list', then replay or "
                "discard them",
            )
        return Result(Code.SUCCESS)

    def shared(self) -> Result:
        """The shared settings are equal to those in the database."""
        try:
            shared = sharing.shared_settings_of(self._conf, self._settings())
            with snapshot(self._conf) as connection:
                found = sharing.differences(connection, shared.fixed | shared.rules)
        except (ValueError, cfg.Error, CommandFailed):
            return Result(Code.WARNING, "Not checked: see the configuration and the database's schema")
        differing = [difference for difference in found if difference.stored is not None]
        if wrong := [difference for difference in differing if difference.name in shared.fixed]:
            return Result(Code.FAILURE, sharing.refusal(wrong))
        if differing:
            return Result(
                Code.WARNING,
                f"{'; '.join(map(str, differing))}: give all workers of the database the same values",
            )
        return Result(Code.SUCCESS)

    def nodes(self) -> Result:
        """The nodes can be read, and none is broken."""
        try:
            with snapshot(self._conf) as connection:
                broken = [node.name for node in queries.nodes(connection) if node.broken]
        except CommandFailed as error:
            return Result(Code.WARNING, f"Not checked: {error}")
        if broken:
            return Result(
                Code.WARNING,
                f"Broken: {', '.join(broken[:10])}, {len(broken)} in all. Their events are held: see "
                "'tracker-worker-manage node rebuild'",
            )
        return Result(Code.SUCCESS)

    def placement(self) -> Result:
        """Placement can be asked, knows all nodes, and nobody else writes to their providers."""
        try:
            if self._settings().placement is None:
                return Result(Code.SUCCESS, "No node is synced: [placement] enabled is false")
            # keystoneauth, which no other check needs.
            from tracker_worker.cmd.placement import placement_client

            client = placement_client(self._conf)
            client.check_version()
            client.named(PROGRAM)  # Unlike the version, providers are shown to those with a role only.
            with snapshot(self._conf) as connection:
                states = providers.states(connection)
        except (ValueError, cfg.Error) as error:
            return Result(Code.FAILURE, configuration_text(error))
        except PlacementError as error:
            # What has a way out does not end by itself.
            ends = isinstance(error, PlacementUnavailable) and not error.way_out
            code = Code.WARNING if ends else Code.FAILURE
            return Result(code, f"No node can be synced, {error.code}: {error}")
        except CommandFailed as error:
            return Result(Code.WARNING, f"Not checked: {error}")
        warnings = []
        if fought := sorted({each.foreign_provider for each in states if each.foreign_provider}):
            warnings.append(
                f"Somebody else changes the providers {', '.join(fought[:10])} ({len(fought)} in all): stop "
                "its writes, or set [placement] enabled = false"
            )
        if failing := [f"{each.node} ({each.error_code})" for each in states if each.error_code]:
            warnings.append(
                f"Not synced: {', '.join(failing[:10])} ({len(failing)} in all): see 'tracker-worker-manage "
                "placement status'"
            )
        return Result(Code.WARNING if warnings else Code.SUCCESS, "; ".join(warnings) or None)

    _upgrade_checks = (
        ("Configuration", _escape_details(configuration)),
        ("Database schema", _escape_details(schema)),
        ("Shared settings", _escape_details(shared)),
        ("Exchange and queues", _escape_details(queues)),
        ("Notifications", _escape_details(notifications)),
        ("Management API", _escape_details(management)),
        ("Nodes", _escape_details(nodes)),
        ("Placement", _escape_details(placement)),
        ("Dead letters", _escape_details(parked)),
    )

    def _settings(self) -> WorkerSettings:
        bootstrap.transports(self._conf)
        return bootstrap.settings_of(self._conf)


def _refused_clients(broker: BrokerSettings) -> list[str]:
    """Return the options with which clients refuse to start, with the reason."""
    found = []
    if not broker.durable:
        found.append(
            "Set [oslo_messaging_rabbit] amqp_durable_queues or rabbit_quorum_queue: otherwise the queues of "
            "notifications are lost when the broker restarts, and clients with this file refuse to start"
        )
    if broker.auto_delete:
        found.append(
            "Unset [oslo_messaging_rabbit] amqp_auto_delete: the broker would delete the exchange of "
            "notifications together with its last queue, and clients with this file refuse to start"
        )
    return found


def main() -> int:
    """Run the checks; exit code 0 success, 1 warning, 2 failure, 130 interrupted, 255 unexpected error."""
    return run(cfg.CONF, sys.argv[1:])


def run(conf: cfg.ConfigOpts, arguments: list[str]) -> int:
    """Run the checks with this configuration; return the exit code."""
    bootstrap.register(conf)

    def check() -> int:
        with reading_options(conf):
            upgradecheck.register_cli_options(conf, Checks(conf))
            conf(
                configuration_first(PROGRAM, arguments),
                project="tracker-worker",
                prog=PROGRAM,
                version=version("tracker-worker"),
                description="Check whether this version can run with the current database, broker and "
                "configuration. It changes nothing.",
                epilog="Examples: tracker-worker-status upgrade check; tracker-worker-status upgrade check "
                "--json (one JSON document). Exit status: 0 success, 1 a warning, 2 a failure or a wrong "
                "command line, 130 interrupted, 255 unexpected error.",
            )
        log_to_stderr(debug=is_debug(arguments))
        upgradecheck.CONF = conf  # As its main() does, which takes no description. It is read for --json.
        code: Any = upgradecheck.run(conf)
        return int(code)

    return exit_code_of(PROGRAM, check, failed=2)
