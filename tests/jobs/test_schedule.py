from datetime import UTC, datetime, timedelta

import pytest

from jobs.schedule import Cron, Every, Job
from tests.jobs.workbench import MINUTE, NEVER, Bench, job_of, note, state_of


async def test_a_cron_schedule_is_kept_in_utc(bench: Bench) -> None:
    opened = datetime.now(UTC)
    async with bench.running(job_of(note, Cron("30 4 * * mon"))) as runner:
        next_run = state_of(runner).next_run
    assert next_run is not None
    assert next_run.utcoffset() == timedelta(0)
    assert (next_run.weekday(), next_run.hour, next_run.minute) == (0, 4, 30)
    assert opened < next_run <= opened + timedelta(days=7, minutes=1)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("0 4 * * 1", "name the weekday"),
        ("0 4 * * 1-5", "name the weekday"),
        ("0 4 1 1", "is not a schedule"),
        ("61 4 * * *", "is not a schedule"),
        ("0 4 * * someday", "is not a schedule"),
        ("often", "is not a schedule"),
        ("", "is not a schedule"),
    ],
)
def test_a_cron_line_that_cannot_be_meant_is_refused(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        Cron(expression)
    assert "\n" not in str(refused.value)


def test_intervals_deadlines_and_names_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        Every(timedelta(0))
    with pytest.raises(ValueError, match="longer than nothing"):
        job_of(note, deadline=timedelta(0))
    for name in ("", "Tidy", "tidy-up", "tidy up", "_tidy", "tidy__up", "1st"):
        with pytest.raises(ValueError, match="snake_case"):
            Job(name, note, NEVER, deadline=MINUTE)
