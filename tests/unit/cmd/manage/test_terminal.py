# SPDX-License-Identifier: Apache-2.0
"""A table on a terminal has the columns for which there is room."""

from collections.abc import Callable

import pytest
from rich.cells import cell_len

from tracker_worker.cmd.manage.formatting import Cell
from tracker_worker.cmd.manage.terminal import draw_table

QUEUES = ("queue", "ready", "unacked", "consumers", "active", "oldest")
QUEUE = ("tracker.p15", 3, 1, 2, "compute-0042.rack-07.example.org:12345", "-")

Drawn = Callable[..., list[str]]


@pytest.fixture
def drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Draws a row on a terminal of some columns; its lines, with single blanks."""

    def draw(width: int, names: tuple[str, ...], row: tuple[object, ...], *keep: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        draw_table(names, [[Cell(str(value), isinstance(value, int)) for value in row]], None, keep)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(cell_len, lines)) <= width
        return [" ".join(line.split()) for line in lines]

    return draw


@pytest.mark.parametrize(
    ("width", "head", "left_out"),
    [
        (100, "queue ready unacked consumers active oldest", None),
        (80, "queue ready unacked consumers active", None),
        (75, "queue ready consumers active", "no room for unacked: --format json has all"),
        (60, "queue ready active", "no room for unacked, consumers: --format json has all"),
    ],
)
def test_queues_lose_the_column_without_a_value_then_the_least_needed(
    drawn: Drawn, width: int, head: str, left_out: str | None
) -> None:
    lines = drawn(width, QUEUES, QUEUE, "queue")
    assert lines[0] == head
    assert len(lines) == (2 if left_out is None else 3)
    assert left_out is None or lines[2] == left_out


def test_row_whose_indispensable_columns_have_no_room_is_a_list_of_all_its_fields(drawn: Drawn) -> None:
    lines = drawn(50, QUEUES, QUEUE, "queue")
    assert lines == [*(f"{name} {value}" for name, value in zip(QUEUES, QUEUE, strict=True)), ""]


def test_text_gets_the_room_that_names_leave(drawn: Drawn) -> None:
    lines = drawn(
        40, ("sequence", "method", "changes"), (7, "start_move", "instance -> outgoing"), "sequence"
    )
    assert lines == ["sequence method changes", "7 start_move instance ->", "outgoing"]


def test_text_takes_no_room_from_a_name(drawn: Drawn) -> None:
    names = ("sequence", "method", "changes", "reason")
    row = (7, "drop_move_claim_at_source", "released outgoing: -1 vcpus", "a reason of five words")
    assert drawn(74, names, row, "sequence")[1].startswith("7 drop_move_claim_at_source released")


def test_name_of_wide_characters_is_not_divided(drawn: Drawn) -> None:
    assert drawn(46, ("name", "host", "flags"), ("計算" * 8, "host-1", "disabled"), "name")[1:] == [
        f"{'計算' * 8} disabled",
        "no room for host: --format json has all",
    ]
