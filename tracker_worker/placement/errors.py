# SPDX-License-Identifier: Apache-2.0
"""What a request to Placement may raise. Each text names the provider and what Placement said."""


class PlacementError(Exception):
    """A request that failed. `code` is stable. `way_out` is the end of the text, if the class knows one."""

    code = "placement_error"
    way_out = ""


class PlacementUnavailable(PlacementError):
    """No answer, or one that says nothing of the request (connection, timeout, 5xx, 429, a proxy's error
    page): try again later.
    """

    code = "placement_unavailable"


class PlacementUnauthorized(PlacementUnavailable):
    """401, or Keystone gave no token: no request succeeds before the login is corrected here or there."""

    code = "placement_unauthorized"
    way_out = (
        "correct [placement] username, password and the other options of the login, and restart the workers; "
        "or correct the user in Keystone"
    )


class WrongEndpoint(PlacementUnavailable):
    """There is no endpoint, or what answers is no Placement: its URL is wrong, or a proxy has lost it."""

    code = "placement_wrong_endpoint"
    way_out = (
        "correct [placement] endpoint_override, region_name, valid_interfaces or auth_url, and restart the "
        "workers; or correct Keystone's catalog, or the proxy in front of Placement"
    )


class PlacementRefused(PlacementError):
    """Placement itself says 400 or 403: the request will not succeed before something is changed."""

    code = "placement_refused"


class PlacementForbidden(PlacementRefused):
    """Placement itself says 403: its policy does not let this user do it."""

    way_out = (
        "the user of [placement] needs the role service, or admin, in its project, or another policy of "
        "Placement; then run 'tracker-worker-manage placement sync --all'"
    )


class ProviderNotFound(PlacementError):
    """404: the provider does not exist, or not any more."""

    code = "provider_not_found"


class GenerationConflict(PlacementError):
    """409: somebody has changed the provider, or the consumer, since its generation was read."""

    code = "generation_conflict"


class InventoryInUse(PlacementError):
    """409: a resource class that was to go has allocations."""

    code = "inventory_in_use"


class ProviderInUse(PlacementError):
    """409: a provider that was to go has allocations, or children."""

    code = "provider_in_use"


class DuplicateProvider(PlacementError):
    """409: a provider with this name or with this uuid exists."""

    code = "duplicate_provider"


class DesiredStateInvalid(PlacementError):
    """Placement would refuse what a provider of `node` shall be, and is not asked before the node's report,
    its reserve or a provider configuration file is corrected. `field` is the path of the wrong value.
    """

    code = "desired_state_invalid"

    def __init__(self, node: str, provider: str, field: str, reason: str) -> None:
        below = "" if provider == node else f" provider {provider}:"
        super().__init__(f"node {node}:{below} {field}: {reason}")
        self.node = node
        self.provider = provider
        self.field = field
