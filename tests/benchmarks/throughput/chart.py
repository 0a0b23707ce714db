# SPDX-License-Identifier: Apache-2.0
"""Draws the summaries. The only module that imports matplotlib, which is in the extra `bench`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.benchmarks.throughput.figures import Summary
from tests.benchmarks.throughput.scenarios import CONTESTANTS

INCHES_A_PANEL = 2.6
COLOURS = dict(zip(CONTESTANTS, ("tab:gray", "tab:brown", "tab:blue", "tab:green"), strict=True))
PANELS: tuple[tuple[str, Callable[[Summary], float]], ...] = (
    ("events a second", lambda each: each.rate),
    ("CPU us an event", lambda each: each.cpu * 1e6),
)


def draw(summaries: Sequence[Summary], file: Path) -> None:
    """Write a PNG: a row for each scenario and database, with the rates and the costs of the contestants."""
    groups: dict[str, list[Summary]] = {}
    for each in summaries:
        groups.setdefault(f"{each.scenario}, {each.database}", []).append(each)
    figure = Figure(figsize=(10, INCHES_A_PANEL * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), len(PANELS), squeeze=False)
    for row, (title, group) in zip(axes, groups.items(), strict=True):
        for panel, (label, value) in zip(row, PANELS, strict=True):
            _bars(panel, group, value)
            panel.set_title(f"{title}: {label}", fontsize=9)
    figure.savefig(file, dpi=100)


def _bars(panel: Any, group: Sequence[Summary], value: Callable[[Summary], float]) -> None:
    bars = panel.barh(
        [each.contestant for each in group],
        [value(each) for each in group],
        color=[COLOURS[each.contestant] for each in group],
    )
    panel.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    panel.margins(x=0.15)
    panel.set_ylim(len(CONTESTANTS) - 0.5, -0.5)
    panel.tick_params(labelsize=8)
