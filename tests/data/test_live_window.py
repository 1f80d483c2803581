"""A window against plain Python, fed with what it did not know at each look."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from data.live_window import SECONDS, Window
from data.queries import Activity, ActivityChanges

# An event: the second in which it occurred, who did it, and where.
Happened = tuple[int, str | None, str | None]

START = 1_000_000
# Seconds about as far apart as the window is long, so that things come and go again.
seconds = st.integers(0, 12).map(lambda step: step * 60) | st.integers(0, 700)
events = st.tuples(
    seconds.map(lambda second: START + second),
    st.sampled_from([None, "u1", "u2", "u3"]),
    st.sampled_from([None, "/a", "/b", "/c", *(f"/{n}" for n in range(9))]),
)
# At each look: how much later it is, and what has arrived since.
looks = st.lists(
    st.tuples(st.sampled_from([1, 1, 2, 60, 120, 299, 300, 301]), st.lists(events, max_size=6)),
    min_size=1,
    max_size=12,
)


def expected(happened: list[Happened], at: int) -> Activity:
    found = [one for one in happened if at - SECONDS < one[0] <= at]
    paths = Counter(path for _, _, path in found if path is not None)
    return Activity(
        datetime.fromtimestamp(at, UTC),
        len({actor for _, actor, _ in found} - {None}),
        len(found),
        tuple(sorted(paths, key=lambda path: (-paths[path], path))[:10]),
    )


def changes(known: list[Happened], before: int, new: list[Happened], at: int) -> ActivityChanges:
    """What is in the window and was not known: it is new, or its time has come."""
    found = [one for one in new if at - SECONDS < one[0] <= at]
    found += [one for one in known if max(before, at - SECONDS) < one[0] <= at]
    last: dict[str, int] = {}
    for second, actor, _ in found:
        if actor is not None:
            last[actor] = max(second, last.get(actor, 0))
    counts = Counter((second, path) for second, _, path in found)
    return ActivityChanges(
        list(last.items()), [(second, path, events) for (second, path), events in counts.items()]
    )


@given(looks)
def test_a_window_says_at_every_look_what_plain_python_says(
    looks: list[tuple[int, list[Happened]]],
) -> None:
    window, known, at = Window(), list[Happened](), START + 200
    for pause, new in looks:
        before, at = window.at, at + pause
        activity = window.move(at, changes(known, before, new, at))
        known += new

        assert activity == expected(known, at)


def test_who_is_heard_of_late_stays_as_long_as_they_were_last_seen() -> None:
    window = Window()
    window.move(1_000, ActivityChanges([("ann", 1_000)], [(1_000, None, 1)]))
    window.move(1_001, ActivityChanges([("ann", 800)], [(800, None, 1)]))

    assert window.move(1_100, ActivityChanges([], [])).users == 1
    assert window.move(1_299, ActivityChanges([], [])).users == 1
    assert window.move(1_300, ActivityChanges([], [])).users == 0


def test_a_window_forgets_what_it_has_left_behind() -> None:
    window = Window()
    for second in range(1, 5_000):
        actors = [(f"u{second}", second)]
        window.move(second, ActivityChanges(actors, [(second, f"/{second}", 1)]))

    assert window.entries <= 2 * SECONDS + SECONDS + SECONDS + 1
    assert window.move(6_000, ActivityChanges([], [])).top_paths == ()
    assert window.entries == 0
