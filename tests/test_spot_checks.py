"""The draw of the monthly spot check (E6): a function of its inputs, fair to every stratum, drawn again by anybody."""

import random
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.desk.working_time import calendar_named
from monitor.desk.working_time import shipped_policy as shipped_hours
from monitor.engine.spot_checking import month_of, opens_at
from monitor.fleet.spot_checks import DAY_MS, Draw, InUse, Policy, allocate, draw, fingerprint, shipped_policy, size

AT = 1_795_000_000_000
POLICY = shipped_policy()

FLEETS = st.lists(
    st.builds(InUse, st.text("abcdef0123", min_size=1, max_size=4), st.sampled_from("PQRS"),
              st.integers(0, 2000).map(lambda days: AT - days * DAY_MS)),
    max_size=120, unique_by=lambda machine: machine.device_id,
)  # fmt: skip
POLICIES = st.builds(
    lambda share, least, more: msgspec.structs.replace(POLICY, share=share, least=least, most=least + more),
    st.floats(0, 1), st.integers(0, 12), st.integers(0, 40),
)  # fmt: skip


def strata_of(machines: list[InUse], policy: Policy) -> dict[tuple[str, int], set[str]]:
    found: dict[tuple[str, int], set[str]] = {}
    for machine in machines:
        days = (AT - machine.added_at) // DAY_MS
        begins = max(edge for edge in policy.age_days if edge <= days)
        found.setdefault((machine.profile, begins), set()).add(machine.device_id)
    return found


@given(FLEETS, POLICIES, st.randoms(use_true_random=False))
def test_the_draw_is_a_function_of_its_inputs(machines: list[InUse], policy: Policy, shuffle: random.Random) -> None:
    drawn = draw(machines, "2026-11", AT, policy)
    mixed = list(machines)
    shuffle.shuffle(mixed)
    assert draw(mixed + mixed[:3], "2026-11", AT, policy) == drawn


@given(FLEETS, POLICIES)
def test_the_draw_is_fair(machines: list[InUse], policy: Policy) -> None:
    drawn = draw(machines, "2026-11", AT, policy)
    ids = {machine.device_id for machine in machines}
    wanted = min(len(ids), policy.most, max(policy.least, -int(-policy.share * len(ids) // 1)))
    assert len(set(drawn.machines)) == len(drawn.machines) == wanted
    assert set(drawn.machines) <= ids
    strata = strata_of(machines, policy)
    assert {(one.profile, one.from_days): one.frame for one in drawn.strata} == {k: len(v) for k, v in strata.items()}
    for one in drawn.strata:
        taken = strata[one.profile, one.from_days] & set(drawn.machines)
        assert len(taken) == one.drawn
        if wanted >= len(strata):
            assert one.drawn >= 1
    largest, smallest = max(drawn.strata, key=size_of, default=None), min(drawn.strata, key=size_of, default=None)
    if largest and smallest:
        assert largest.drawn >= min(smallest.drawn, largest.frame)


def size_of(one: object) -> int:
    return one.frame  # type: ignore[attr-defined, no-any-return]


@given(
    st.dictionaries(st.tuples(st.sampled_from("PQRSTUV"), st.integers(0, 3)), st.integers(1, 5000), max_size=12),
    st.integers(0, 60),
)
@settings(max_examples=50)
def test_shares_follow_the_sizes(sizes: dict[tuple[str, int], int], wanted: int) -> None:
    counts, total = allocate(sizes, wanted), sum(sizes.values())
    assert sum(counts.values()) == min(wanted, total)
    assert all(0 <= counts[one] <= sizes[one] for one in sizes)
    many = [one for one in sizes if wanted * sizes[one] >= total]
    for one in many:
        # Who has a whole share of its own gets no more than that and one beside it.
        assert counts[one] <= wanted * sizes[one] / total + 1


def test_another_month_is_another_draw() -> None:
    machines = [InUse(f"m{n}", "p", AT) for n in range(400)]
    months = [draw(machines, f"2026-{month:02}", AT, POLICY) for month in range(1, 13)]
    assert len({one.machines for one in months}) == 12
    # Over a year the luck is spread: each has the same chance, whatever its name.
    hits = [sum(machine.device_id in one.machines for one in months) for machine in machines]
    assert sum(hits) == 12 * 20
    assert max(hits) <= 5


def test_the_recorded_draw_can_be_drawn_by_hand() -> None:
    """The recipe as docs/fleet.md tells it, written out: another program would do the same."""
    from hashlib import sha256

    machines = [InUse(f"m{n}", "p", AT) for n in range(40)]
    drawn = draw(machines, "2026-11", AT, POLICY)
    assert drawn.seed == f"2026-11 {POLICY.constant}"
    ids = [machine.device_id for machine in machines]
    first = sorted(ids, key=lambda one: sha256(f"{drawn.seed}\n{one}".encode()).hexdigest())[: size(40, POLICY)]
    assert drawn.machines == tuple(sorted(first))
    assert drawn.fingerprint == fingerprint(ids) == sha256("\n".join(sorted(ids)).encode()).hexdigest()


def test_nothing_in_use_is_nothing_drawn() -> None:
    assert draw([], "2026-11", AT, POLICY) == Draw(
        "2026-11", AT, POLICY.seed("2026-11"), POLICY.version, 0, fingerprint([]), (), ()
    )


@pytest.mark.parametrize(("frame", "drawn"), [(0, 0), (3, 3), (5, 5), (100, 5), (101, 6), (400, 20), (10_000, 60)])
def test_how_many_are_drawn(frame: int, drawn: int) -> None:
    assert size(frame, POLICY) == drawn


@pytest.mark.parametrize(
    "wrong",
    [{"share": 1.5}, {"least": 9, "most": 5}, {"age_days": (1, 5)}, {"age_days": (0, 5, 5)}, {"age_days": ()}],
)
def test_a_wrong_policy_is_refused(wrong: dict[str, object]) -> None:
    kept = {**msgspec.structs.asdict(POLICY), **wrong}
    with pytest.raises(ValueError, match=r"lies between|begins with"):
        Policy(**kept)


# --- when ----------------------------------------------------------------------------------------------------------

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("month", "day"),
    [
        ("2026-01", 4),  # a Sunday that is worked for New Year
        ("2026-02", 2),
        ("2026-05", 6),  # after Labour Day
        ("2026-10", 8),  # after National Day
        ("2026-11", 2),
    ],
)
def test_the_first_working_day_of_a_month(month: str, day: int) -> None:
    calendar = calendar_named("working", shipped_hours(), "Asia/Shanghai")
    opens = opens_at(calendar, month)
    assert opens is not None
    local = datetime.fromtimestamp(opens / 1000, SHANGHAI)
    assert (f"{local:%Y-%m}", local.day, local.hour) == (month, day, 9)
    assert month_of(calendar, opens) == month
    midnight = int(datetime.fromisoformat(f"{month}-01T00:00:00+08:00").timestamp() * 1000)
    assert month_of(calendar, midnight) == month
    assert month_of(calendar, midnight - 1) != month
