# SPDX-License-Identifier: Apache-2.0
"""Runs in an environment: reports a node, claims an instance on it, and prints what came of it as JSON.

Takes JSON: url, node, report, instance. Prints the modules of the worker's that the client has brought along,
the outcome, and the instances of the node.
"""

import json
import sys

from oslo_config import cfg

from tracker_worker.rpcapi import TrackerAPI

WORKERS_OWN = {
    "alembic", "keystoneauth1", "psycopg", "rich", "sqlalchemy", "tracker_worker.db", "tracker_worker.worker",
}  # fmt: skip


def main() -> None:
    imported = sorted(WORKERS_OWN & sys.modules.keys())
    order = json.load(sys.stdin)
    node, instance = order["node"], order["instance"]
    cfg.CONF([], project="packaging")
    api = TrackerAPI.from_conf(cfg.CONF, order["url"])
    as_of = api.snapshot()
    api.update_available_resource({}, node, order["report"], instances=[], as_of=as_of)
    with api.instance_claim({}, node, instance) as claim:
        claim.saved()
    view = api.get_node({}, node)
    print(json.dumps({"imported": imported, "outcome": claim["outcome"], "running_vms": view["running_vms"]}))


if __name__ == "__main__":
    main()
