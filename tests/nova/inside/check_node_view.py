# SPDX-License-Identifier: Apache-2.0
"""The adapter makes of a claim what Nova's own fitting makes."""

import random
import unittest
from typing import Any

from nova import objects
from nova.virt import hardware
from tracker_worker.nova import conversion, node_view

QUESTIONS = 400


def a_host(chance: random.Random) -> Any:
    threads, cores = chance.choice([1, 2, 4]), chance.choice([2, 4, 8])
    cells = []
    for cell in range(2):
        first = cell * threads * cores
        groups = [{first + core * threads + thread for thread in range(threads)} for core in range(cores)]
        cpus = set().union(*groups)
        taken = set(chance.sample(sorted(cpus), chance.randint(0, len(cpus) // 2)))
        pages = objects.NUMAPagesTopology(size_kb=4, total=2**22, used=0, reserved=0)
        cells.append(
            objects.NUMACell(
                id=cell,
                socket=0,
                cpuset=cpus,
                pcpuset=cpus,
                memory=16384,
                cpu_usage=0,
                memory_usage=0,
                mempages=[pages],
                siblings=groups,
                pinned_cpus=taken,
            )
        )
    return objects.NUMATopology(cells=cells)


def a_flavor(chance: random.Random) -> Any:
    policy = chance.choice(["dedicated", "dedicated", "shared"])
    specs = {"hw:cpu_policy": policy, "hw:numa_nodes": str(chance.choice([1, 2]))}
    if policy == "dedicated" and chance.random() < 0.6:
        specs["hw:cpu_thread_policy"] = chance.choice(["prefer", "isolate", "require"])
    if policy == "dedicated" and chance.random() < 0.3:
        specs["hw:emulator_threads_policy"] = "isolate"
    return objects.Flavor(vcpus=chance.choice([2, 4, 6, 8]), memory_mb=2048, extra_specs=specs)


class InstanceTopology(unittest.TestCase):
    def test_claim_becomes_the_topology_that_nova_fits(self) -> None:
        objects.register_all()
        chance, fitted = random.Random(14), 0
        image = objects.ImageMeta.from_dict({})
        for number in range(QUESTIONS):
            host, flavor = a_host(chance), a_flavor(chance)
            asked = hardware.numa_get_constraints(flavor, image)
            theirs = hardware.numa_fit_instance_to_host(host, asked, None)
            if theirs is None:
                continue
            fitted += 1
            claim = {"instance_uuid": "instance-1", "numa_topology": conversion.numa_topology(theirs)}
            ours = node_view.instance_topology(claim)
            with self.subTest(number):
                self.assertEqual(self.described(theirs), self.described(ours))
        self.assertGreater(fitted, QUESTIONS / 4)

    def described(self, topology: Any) -> Any:
        """Return all that Nova may read of a topology and its cells."""
        names = [name for name in objects.InstanceNUMACell.fields if name != "cpu_topology"]
        cells = [
            {name: getattr(cell, name) if cell.obj_attr_is_set(name) else None for name in names}
            for cell in topology.cells
        ]
        return cells, topology.emulator_threads_policy


class Write(unittest.TestCase):
    def test_cell_that_the_view_does_not_have_stays_as_it_is(self) -> None:
        objects.register_all()
        topology = a_host(random.Random(1))
        for cell in topology.cells:
            cell.cpu_usage = 7
        node = objects.ComputeNode(numa_topology=topology._to_json())
        usage = {"id": 1, "cpu_usage": 2, "memory_usage": 512, "pinned_cpus": [], "mempages": []}
        names = ("vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb", "free_disk_gb")
        view = dict.fromkeys((*names, "running_vms", "current_workload"), 0) | {
            "stats": {},
            "numa_topology": {"cells": [usage, usage | {"id": 5}]},
        }
        node_view.write(node, {}, view)
        written = objects.NUMATopology.obj_from_db_obj(node.numa_topology)
        self.assertEqual([7, 2], [cell.cpu_usage for cell in written.cells])
