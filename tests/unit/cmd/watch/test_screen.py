# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of a picture, whatever its size and whatever the senders' texts contain."""

import io

import pytest
from rich.console import Console

from tests.sent_notifications import Json, body_of, sent, sent_usage
from tracker_worker.cmd.watch.entries import entry_of
from tracker_worker.cmd.watch.picture import Picture
from tracker_worker.cmd.watch.screen import Size, Status, age, line_of, plain_lines, render
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.core.received_notification import read_notification

CONNECTED = Status("RabbitMQ rabbit1:5672 (virtual host /): connected")
NASTY = "[red]n\x1b[2J\u202e"


def picture_of(*messages: Json, selection: Selection = Selection()) -> Picture:  # noqa: B008
    picture = Picture(selection)
    for message in messages:
        notification = read_notification(body_of(message))
        assert notification is not None
        picture.apply(notification, 10.0)
    return picture


def lines(
    picture: Picture, columns: int = 80, height: int | None = 24, status: Status = CONNECTED
) -> list[str]:
    """The lines of a terminal without colours."""
    console = Console(file=io.StringIO(), width=columns, color_system=None)
    console.print(render(picture, status, Size(columns, height), 72.0))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_node_is_a_line_with_its_bars() -> None:
    usage = sent_usage(
        "a", 5, 3, vcpus_used=4, memory_mb_used=16384, local_gb_used=150, cpu_allocation_ratio=2.0
    )
    head, counts, headings, node = lines(picture_of(usage))
    assert head == CONNECTED.text
    assert counts == "1 notifications, 0/s  1 usage"
    assert headings.split() == ["node", "vcpus", "memory", "GB", "disk", "GB", "inst", "age"]
    name, part, vcpus, whole, memory, overfull, disk, instances, since = node.split()
    assert (name, vcpus, memory, disk, instances, since) == ("a", "4/16", "16/16", "150/100", "2", "1m")
    assert len(whole) == len(overfull) > 2 * len(part)


def test_marks_name_gaps_refusals_and_disabled_nodes() -> None:
    gap = (sent_usage("a", 5, 3), sent_usage("a", 9, 7, disabled=True), sent("claim.error", node="a"))
    node = lines(picture_of(*gap))[3]
    assert node.endswith("gaps 1 refused 1 disabled")


REASON = "Free memory 512.00 MB < requested 4096 MB; Free vcpu 1.00 VCPU < requested 8 VCPU"


@pytest.mark.parametrize("columns", [80, 60])
def test_reason_and_uuid_of_an_event_are_wrapped_and_not_cut(columns: int) -> None:
    node = "compute-0042.rack-07.zone-east.example.org"
    shown = lines(picture_of(sent("claim.error", node=node, reason=REASON)), columns)
    event = shown[shown.index("") + 1 :]
    assert len(event) > 1
    assert max(map(len, event)) <= columns
    assert {line[:10] for line in event[1:]} <= {f"{' ' * 9}{line.strip()[0]}" for line in event[1:]}
    assert f"{REASON} (instance_claim bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb)" in " ".join(
        " ".join(event).split()
    )


UUID = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@pytest.mark.parametrize("columns", [120, 80, 60, 50, 40, 37])
@pytest.mark.parametrize("reason", [REASON, "x", UUID, f"{'long ' * 3}{UUID}"])
def test_uuid_of_an_event_is_on_one_line(columns: int, reason: str) -> None:
    """Found by a newcomer at 60 columns: it could not be searched for, nor be copied."""
    node = "compute-0042.rack-07.zone-east.example.org"
    shown = lines(picture_of(sent("claim.error", node=node, reason=reason)), columns)
    event = shown[shown.index("") + 1 :]
    assert max(map(len, event)) <= columns
    text = f"{reason} (instance_claim {UUID})"
    assert sum(line.count(UUID) for line in event) == text.count(UUID)
    assert text in " ".join(" ".join(event).split())


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (90, "node vcpus memory GB disk GB inst age"),
        (72, "node vcpus memory GB disk GB inst age"),
        (68, "node vcpus memory GB disk GB inst"),
        (60, "node vcpus memory GB"),
    ],
)
def test_narrow_terminal_leaves_out_columns_before_it_cuts_a_name(columns: int, headings: str) -> None:
    """Nodes of Ironic are named by their uuids."""
    shown = lines(picture_of(sent_usage(UUID, 5, 3)), columns)
    assert " ".join(shown[2].split()) == headings
    assert shown[3].startswith(UUID)
    assert ("━" in shown[3]) is (columns > 80)


@pytest.mark.parametrize(
    ("node", "columns", "shown_of_name"),
    [
        (UUID, 60, 24),
        (UUID, 50, 14),
        ("compute-0042.rack-07.zone-east.example.org", 72, 36),
        ("compute-1", 40, 4),
    ],
)
def test_name_without_room_beside_marks_is_cut_after_all_columns_that_can_be_left_out(
    node: str, columns: int, shown_of_name: int
) -> None:
    """The first mark of a node brought back all columns, bars too, and left two characters of the names."""
    marked = picture_of(sent_usage(node, 5, 3), sent_usage(node, 9, 7, disabled=True))
    headings, row = lines(marked, columns)[2:4]
    assert headings.split() == ["node", "vcpus", "memory", "GB"]
    assert row.startswith(node[: shown_of_name - 1])
    assert "━" not in row


def test_name_that_does_not_fit_at_all_is_cut_and_costs_no_column() -> None:
    shown = lines(picture_of(sent_usage("long" * 40, 5, 3)), 80)
    assert shown[2].split() == ["node", "vcpus", "memory", "GB", "disk", "GB", "inst", "age"]
    assert "…" in shown[3]


def test_word_longer_than_a_line_is_divided() -> None:
    shown = lines(picture_of(sent("claim.error", reason="x" * 200)), 60)
    event = shown[shown.index("") + 1 :]
    assert max(map(len, event)) <= 60
    assert "".join(event).count("x") == 200


def test_wrapped_events_share_the_lines_of_the_screen() -> None:
    shown = lines(picture_of(*(sent("claim.error", reason=REASON) for _ in range(9))), 60, 12)
    assert len(shown) <= 12
    assert "bbbbbbbbbbbb)" in shown[-1]


def test_picture_for_a_pipe_is_whole_and_has_no_bars_and_no_blanks_at_the_ends() -> None:
    node = f"compute.{'long' * 40}.example.org"
    usage = sent_usage(node, 5, 3, vcpus_used=4, disabled=True)
    picture = picture_of(usage, sent_usage("n", 1, 0), sent("claim.error", node=node, reason=REASON))
    found = list(plain_lines(picture, CONNECTED, 72.0))
    assert [line for line in found if line != line.rstrip() or not line.isascii()] == []
    assert found[0] == CONNECTED.text
    assert [line.split() for line in found[2:5]] == [
        ["node", "vcpus", "memory_GB", "disk_GB", "inst", "age", "marks"],
        ["n", "6/8", "6.5/16", "60/100", "2", "1m", "-"],
        [node, "4/8", "6.5/16", "60/100", "2", "1m", "refused", "1,", "disabled"],
    ]
    assert found[5:] == ["", line_of(picture.entries[-1])]


@pytest.mark.parametrize(("columns", "height"), [(80, 24), (120, 50), (40, 10), (20, 5), (250, 24)])
def test_picture_fits_the_terminal(columns: int, height: int) -> None:
    usages = [sent_usage(f"compute-{n}.{'long' * min(n, 50)}.example.org", n + 1, 0) for n in range(60)]
    shown = lines(picture_of(*usages, *(sent("claim.error") for _ in range(60))), columns, height)
    assert len(shown) <= max(height, 10)
    assert max(map(len, shown)) <= columns


def test_nodes_and_events_share_the_lines() -> None:
    usages = [sent_usage(f"n{number}", 1, 0) for number in range(60)]
    shown = lines(picture_of(*usages, *(sent("claim.error") for _ in range(60))))
    assert [sum(word in line for line in shown) for word in (" 1m", "refused ")] == [9, 2]
    assert "and 51 more nodes that are less full" in shown


def test_lines_that_nodes_leave_are_for_events() -> None:
    shown = lines(picture_of(*(sent("claim.error") for _ in range(60))))
    assert sum(" refused " in line for line in shown) == 17 // 3  # Each has three lines.


def test_newest_event_is_the_first() -> None:
    shown = lines(picture_of(sent("create"), sent("claim.error")))
    assert [line.split()[1] for line in (shown[-4], shown[-1])] == ["refused", "created"]


def test_everything_is_shown_without_a_height() -> None:
    usages = [sent_usage(f"n{number}", 1, 0) for number in range(60)]
    assert len(lines(picture_of(*usages), height=None)) == 63


def test_text_of_senders_is_neither_markup_nor_control() -> None:
    messages = (sent_usage(NASTY, 5, 3), sent("claim.error", node=NASTY, reason=NASTY))
    shown = "\n".join(lines(picture_of(*messages, selection=Selection(nodes=("*",))), 120))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.count(r"[red]n\x1b[2J\u202e") == 3


def test_lost_connection_and_selection_are_shown() -> None:
    status = Status("RabbitMQ x: not connected, trying again: refused", lost=True)
    picture = picture_of(selection=Selection(nodes=("a*", "b"), types=("*.error",), project="p1"))
    picture.left_out["of other services"] = 3
    shown = lines(picture, status=status)
    assert shown[0] == status.text
    assert shown[2] == "shown: node a* b, event *.error, project p1; 3 of other services"


def test_entry_is_one_line_of_plain_text() -> None:
    notification = read_notification(body_of(sent("claim.error", node=NASTY, reason="a\nb")))
    assert notification is not None
    line = line_of(entry_of(notification))
    assert line == (
        r"2026-11-22T12:00:00Z refused [red]n\x1b[2J\u202e a\nb "
        "(instance_claim bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.9, "60s"), (61, "1m"), (3600, "1h"), (90_000, "1d")]
)
def test_age_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
