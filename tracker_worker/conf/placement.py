# SPDX-License-Identifier: Apache-2.0
"""[placement]: whether and how resource providers are synced to Placement.

The options of keystoneauth have its names, so that a section of nova.conf can be copied. They are declared
here, because importing keystoneauth takes longer than most commands; a test compares them with its own.
"""

from oslo_config import cfg, types

from tracker_worker.conf.types import FiniteFloat

GROUP = cfg.OptGroup("placement", title="Resource providers in Placement")

AUTH_TYPE = cfg.StrOpt(
    "auth_type",
    deprecated_opts=[cfg.DeprecatedOpt("auth_plugin")],
    help="""
Plugin of keystoneauth by which the worker logs in, as in nova.conf: ``password``,
``v3applicationcredential`` and others.

Set it where the worker syncs or audits providers. Options of the plugin that are not listed here, such as
``application_credential_secret``, belong into the same group.
""",
)

_SYNC = [
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="""
Whether the worker keeps the inventories and traits of its nodes' resource providers in Placement.

Set it to true for all workers where the compute managers do not write to Placement themselves. Two writers
of a provider undo each other's changes.
""",
    ),
    cfg.StrOpt(
        "provider_config_location",
        help="""
Directory of ``*.yaml`` files with additional inventories and traits, in the format of nova-compute's provider
configuration. If it is not set, the worker reads none.

Set it where nova-compute's ``[compute] provider_config_location`` was used, to a directory with the files of
all nodes. It must have the same files for all workers.
""",
    ),
    cfg.IntOpt(
        "refresh_interval",
        default=300,
        min=1,
        max=86400,
        help="""
Seconds after which the worker asks whether another client has changed a provider. The time varies a little
from node to node.

Raise it to reduce the load of Placement: each refresh is one request for a node that has not changed.
""",
    ),
    cfg.IntOpt(
        "concurrency",
        default=4,
        min=1,
        max=10,  # What a session keeps open: each request above it would open a connection.
        help="""
Maximum number of requests to Placement that each worker makes at a time.

Raise it where Placement runs with many processes and a first sync of all nodes takes too long. One process of
Placement serves about 80 changes a second.
""",
    ),
]

_LOGIN = [
    AUTH_TYPE,
    cfg.StrOpt(
        "auth_section",
        help="""
Group from which ``auth_type`` and the options of its plugin are read, instead of this group.

Set it to share the credentials of another group.
""",
    ),
    cfg.StrOpt(
        "auth_url",
        secret=True,  # It may have a password.
        help="""
URL of Keystone, as in https://keystone.example.org/v3.

Set it with ``auth_type = password`` and most other plugins.
""",
    ),
    cfg.StrOpt(
        "username",
        deprecated_opts=[cfg.DeprecatedOpt("user-name"), cfg.DeprecatedOpt("user_name")],
        help="""
Name of the user of Keystone.

Set it with ``auth_type = password``. The user needs the role ``service``, or ``admin``, in its project.
""",
    ),
    cfg.StrOpt(
        "password",
        secret=True,
        help="""
Password of the user.

Set it with ``auth_type = password``. In a configuration file write ``$`` as ``$$``.
""",
    ),
    cfg.StrOpt(
        "user_domain_name",
        help="""
Name of the domain of the user.

Set it with ``username``, unless ``user_domain_id`` is set.
""",
    ),
    cfg.StrOpt(
        "user_domain_id",
        help="""
Id of the domain of the user.

Set it with ``username``, unless ``user_domain_name`` is set.
""",
    ),
    cfg.StrOpt(
        "project_name",
        deprecated_opts=[cfg.DeprecatedOpt("tenant-name"), cfg.DeprecatedOpt("tenant_name")],
        help="""
Name of the project to which the token is scoped.

Set it with ``auth_type = password``, usually to ``service``.
""",
    ),
    cfg.StrOpt(
        "project_id",
        deprecated_opts=[cfg.DeprecatedOpt("tenant-id"), cfg.DeprecatedOpt("tenant_id")],
        help="""
Id of the project to which the token is scoped.

Set it instead of ``project_name``.
""",
    ),
    cfg.StrOpt(
        "project_domain_name",
        help="""
Name of the domain of the project.

Set it with ``project_name``, unless ``project_domain_id`` is set.
""",
    ),
    cfg.StrOpt(
        "project_domain_id",
        help="""
Id of the domain of the project.

Set it with ``project_name``, unless ``project_domain_name`` is set.
""",
    ),
]

_ENDPOINT = [
    cfg.StrOpt(
        "service_type",
        default="placement",
        help="""
Type of the service in Keystone's catalog.

Change it only where the catalog has Placement under another type.
""",
    ),
    cfg.StrOpt(
        "service_name",
        help="""
Name of the service in Keystone's catalog.

Set it only where the catalog has several services of this type.
""",
    ),
    cfg.ListOpt(
        "valid_interfaces",
        default=["internal", "public"],
        item_type=types.String(choices=["admin", "internal", "public"]),
        help="""
Interfaces of the endpoint in Keystone's catalog, in order of preference.

Change it where workers must not use the internal endpoint.
""",
    ),
    cfg.StrOpt(
        "region_name",
        help="""
Region of the endpoint in Keystone's catalog.

Set it where the catalog has several regions.
""",
    ),
    cfg.StrOpt(
        "endpoint_override",
        secret=True,  # It may have a password.
        help="""
URL of Placement, as in https://placement.example.org. By default it is that of Keystone's catalog.

Set it where the catalog has none that workers can reach.
""",
    ),
]

_CONNECTION = [
    cfg.Opt(
        "timeout",
        type=FiniteFloat(min=0.1, max=600.0),
        default=10.0,
        help="""
Seconds after which the worker stops waiting for a connection or for the next bytes of an answer.

Raise it where Placement is slow under load.
""",
    ),
    cfg.IntOpt(
        "connect_retries",
        default=1,
        min=0,
        max=10,
        help="""
Number of times that a request is sent again at once after a lost connection or a timeout.

Leave it at 1: servers close idle connections. The worker tries again later in any case.
""",
    ),
    cfg.Opt(
        "connect_retry_delay",
        type=FiniteFloat(min=0.0, max=60.0),
        default=0.5,
        help="""
Seconds before a request is sent again after a lost connection.

Raise it together with ``connect_retries`` where a load balancer takes long to switch.
""",
    ),
    cfg.IntOpt(
        "status_code_retries",
        default=0,
        min=0,
        max=10,
        help="""
Number of times that a request is sent again at once after an answer with one of ``retriable_status_codes``.

Leave it at 0: the worker tries again later, with increasing pauses.
""",
    ),
    cfg.Opt(
        "status_code_retry_delay",
        type=FiniteFloat(min=0.0, max=60.0),
        default=0.5,
        help="""
Seconds before a request is sent again after such an answer.

It has an effect with ``status_code_retries``.
""",
    ),
    cfg.ListOpt(
        "retriable_status_codes",
        default=[503],
        item_type=types.Integer(min=500, max=599),
        help="""
Statuses of answers after which a request is sent again at once.

It has an effect with ``status_code_retries``.
""",
    ),
    cfg.StrOpt(
        "cafile",
        help="""
File with the certificates of the authorities that the certificates of Keystone and Placement are verified by,
in PEM format. By default they are those of the Python package certifi.

Set it where the certificates are issued by an authority of your own.
""",
    ),
    cfg.StrOpt(
        "certfile",
        help="""
File with the worker's own certificate, in PEM format.

Set it where the servers request a certificate.
""",
    ),
    cfg.StrOpt(
        "keyfile",
        help="""
File with the key of the worker's certificate, in PEM format.

Set it with ``certfile``, unless that file has the key too.
""",
    ),
    cfg.BoolOpt(
        "insecure",
        default=False,
        help="""
Whether the worker accepts any certificate.

Set it to true only to find a fault: any host could then read the password.
""",
    ),
    cfg.StrOpt(
        "tls_min_version",
        choices=["1.2", "1.3"],
        help="""
Minimum version of TLS. By default it is that of the system's policy.

Set it where a policy requires a version.
""",
    ),
    cfg.StrOpt(
        "tls_ciphers",
        help="""
Ciphers of TLS, in OpenSSL's format. By default they are OpenSSL's.

Set it where a policy requires certain ciphers.
""",
    ),
    cfg.BoolOpt(
        "collect_timing",
        default=False,
        help="""
Whether keystoneauth collects the durations of its requests.

Leave it: the worker does not read them, and has metrics of its own.
""",
    ),
    cfg.BoolOpt(
        "split_loggers",
        default=False,
        help="""
Whether keystoneauth logs requests, answers and their bodies with loggers of their own.

Set it to true to choose in ``default_log_levels`` which of them to log.
""",
    ),
]

OPTS = [*_SYNC, *_LOGIN, *_ENDPOINT, *_CONNECTION]


def plugin_options(conf: cfg.ConfigOpts) -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options of the configured plugin that are not in OPTS, by group; none without a plugin.

    They are not registered. An unknown plugin has none. Imports keystoneauth if there is a plugin. Raises
    cfg.Error.
    """
    group = auth_group(conf)
    name = conf[group].auth_type
    if not name:
        return []
    from keystoneauth1 import loading
    from keystoneauth1.exceptions import NoMatchingPlugin

    try:
        found = loading.get_auth_plugin_conf_options(name)
    except NoMatchingPlugin:
        found = []
    if group != GROUP.name:
        return [(group, [AUTH_TYPE, *found])]
    declared = {option.dest for option in OPTS}
    return [(group, [option for option in found if option.dest not in declared])]


def auth_group(conf: cfg.ConfigOpts) -> str:
    """Return the name of the group that has `auth_type`, after registering the option there."""
    group: str = conf[GROUP.name].auth_section or GROUP.name
    conf.register_opt(AUTH_TYPE, group=group)
    return group
