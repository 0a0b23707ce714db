# SPDX-License-Identifier: Apache-2.0
"""The reference model that other tests compare ledgers with, by numbers that were worked out by hand."""

from tests import samples
from tests.ledger_model import INCOMING, INSTANCE, OUTGOING, ROLES, Amounts, Claim, Ledger, amounts_of

SMALL, LARGE = samples.a_flavor(2, 2048, 20), samples.a_flavor(4, 4096, 40)
ACTIVE, RESIZED = ("active", None), ("resized", None)
LIMITS = Amounts(8, 16384, 100 * 1024)


def booted() -> Ledger:
    return Ledger().claim("a", INSTANCE, Claim(SMALL, None, ACTIVE))[0]


def resized() -> Ledger:
    claimed, _ = booted().claim("a", INCOMING, Claim(LARGE, "m", ACTIVE))
    return claimed.finish_move("a", RESIZED)[0]


def test_resize_on_a_node_counts_old_and_new_until_it_is_confirmed() -> None:
    assert booted().used == (2, 2560, 20 * 1024)
    assert resized().used == (6, 6656, 60 * 1024)
    confirmed, outcome = resized().release("a", OUTGOING)
    assert (confirmed.used, outcome) == ((4, 4608, 40 * 1024), "applied")
    assert confirmed.rows == {("a", INSTANCE): (4, 4096, 40 * 1024, "m", "resized", None)}
    assert confirmed.release("a", *ROLES)[0].used == (0, 512, 0)


def test_reverted_resize_leaves_what_was_there_before() -> None:
    reverted, outcome = resized().drop_move_claim_at_dest("a")
    assert (reverted, outcome) == (booted(), "applied")


def test_event_that_changes_nothing_is_ignored() -> None:
    for after in (booted().take_states("a", ACTIVE), booted().release("b", *ROLES), Ledger().start_move("a")):
        assert after[1] == "ignored"


def test_claim_beyond_a_limit_is_refused_and_one_that_it_replaces_is_not_counted() -> None:
    huge = Claim(samples.a_flavor(7, 1024, 1), None, ACTIVE)
    assert booted().claim("b", INSTANCE, huge, LIMITS) == (booted(), "refused")
    assert booted().claim("a", INSTANCE, huge, LIMITS)[1] == "granted"


def test_equal_claim_is_granted_again_and_keeps_its_migration() -> None:
    claimed, _ = Ledger().claim("a", INCOMING, Claim(SMALL, "m", ACTIVE))
    assert claimed.claim("a", INCOMING, Claim(SMALL, None, ACTIVE), Amounts()) == (claimed, "granted")


def test_volume_backed_root_disk_counts_nothing() -> None:
    flavor = samples.a_flavor(1, 512, 40, ephemeral_gb=3, swap_mb=100)
    assert amounts_of(flavor).disk_mb == 43 * 1024 + 100
    assert amounts_of(flavor, volume_backed=True).disk_mb == 3 * 1024 + 100
    assert amounts_of(flavor).shown == (1, 512, 43)


def test_audit_releases_what_it_does_not_list_unless_that_is_newer() -> None:
    known = booted().record("a", ("client", 7))
    assert known.audit({}, "client", 7)[0].used == (0, 512, 0)
    for source, as_of, left in (("client", 6, known), ("other", 6, Ledger())):
        after, outcome = known.audit({}, source, as_of)
        assert after.claims == left.claims
        assert outcome == ("ignored" if left is known else "applied")
