# SPDX-License-Identifier: Apache-2.0
"""What becomes of a server while no worker answers the claim of its operation: never ERROR, once built."""

import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_utils import uuidutils

from nova.tests.functional import integrated_helpers
from tests.nova.inside import replaced
from tests.nova.workers import InProcessWorker
from tracker_worker.nova.cast_queue import CastQueue

SECONDS = 20


class Servers(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    compute_driver = "fake.MediumFakeDriver"

    def setUp(self) -> None:
        super().setUp()
        self.is_silent = False
        self.worker = self.useFixture(InProcessWorker(cfg.CONF))
        self.flags(allow_resize_to_same_host=True)
        self.computes = {host: self.a_compute(host) for host in ("compute1", "compute2")}
        self.flavors = {each["name"]: each["id"] for each in self.api.get_flavors()}

    def a_compute(self, host: str) -> Any:
        api: Any = self.worker.connect()
        call = api._link.call

        def call_unless_silent(*args: Any, **kwargs: Any) -> Any:
            if self.is_silent:
                raise oslo_messaging.MessagingTimeout
            return call(*args, **kwargs)

        api._link.call = call_unless_silent
        service = self.start_service("compute", host=host)
        casts = CastQueue(api, uuidutils.generate_uuid, time.sleep, time.monotonic, SECONDS)
        service.manager.rt = replaced.a_tracker(service.manager, casts)
        return service

    def a_server(self) -> Any:
        server = self._create_server(flavor_id=self.flavors["m1.tiny"], networks="none")
        return self.api.get_server(server["id"])

    def assert_unchanged(self, server: Any, host: str | None) -> None:
        found = self._wait_for_server_parameter(server, {"OS-EXT-STS:task_state": None})
        before = {"status": server["status"], "OS-EXT-SRV-ATTR:host": host}
        self.assertEqual(before, {name: found[name] for name in before})

    def test_resize_and_migration_leave_the_server_as_it_was(self) -> None:
        server = self.a_server()
        stopped = self._stop_server(self.a_server())
        self.is_silent = True
        for each, action in (
            (server, {"resize": {"flavorRef": self.flavors["m1.small"]}}),
            (server, {"migrate": None}),
            (stopped, {"migrate": None}),
        ):
            self.api.post_server_action(each["id"], action)
            self._wait_for_action_fail_completion(each, next(iter(action)), "compute_prep_resize")
            self.assert_unchanged(each, each["OS-EXT-SRV-ATTR:host"])

    def test_unshelve_leaves_the_server_shelved(self) -> None:
        server = self._shelve_server(self.a_server())
        self.is_silent = True
        self.api.post_server_action(server["id"], {"unshelve": None})
        self._wait_for_action_fail_completion(server, "unshelve", "compute_unshelve_instance")
        self.assert_unchanged(server, None)

    def test_evacuation_leaves_the_server_on_its_host(self) -> None:
        server = self.a_server()
        host = server["OS-EXT-SRV-ATTR:host"]
        self.computes[host].stop()
        self.api.put_service_force_down(self.computes[host].service_ref.uuid, True)
        self.is_silent = True
        self.api.post_server_action(server["id"], {"evacuate": {}})
        self._wait_for_action_fail_completion(server, "evacuate", "compute_rebuild_instance")
        self.assert_unchanged(server, host)
