"""What happens by itself, and when: every job of the service on one screen."""

from datetime import timedelta

from data.resources import Resources
from jobs.destroy_salts import destroy_salts
from jobs.expire_export_notices import expire_export_notices
from jobs.expire_source_history import expire_source_history
from jobs.make_partitions import make_partitions
from jobs.plan_exports import plan_exports
from jobs.reconcile import reconcile
from jobs.refresh_daily_users import refresh_daily_users
from jobs.refresh_due_sources import refresh_due_sources
from jobs.rewrap_export_secrets import rewrap_export_secrets
from jobs.schedule import Cron, Every, Job
from jobs.send_heartbeat import send_heartbeat

JOBS: tuple[Job[Resources], ...] = (
    Job(
        "make_partitions",
        make_partitions,
        Every(timedelta(hours=12)),
        deadline=timedelta(minutes=1),
    ),
    # At midnight UTC, when a salt's two days are over, and at the start for those missed.
    Job(
        "destroy_salts",
        destroy_salts,
        Cron("0 0 * * *"),
        deadline=timedelta(minutes=1),
        at_start=True,
    ),
    # A refresh rests for nine times as long as it took, so it may come often.
    Job(
        "refresh_daily_users",
        refresh_daily_users,
        Every(timedelta(seconds=15)),
        deadline=timedelta(minutes=5),
        at_start=True,
        # What was not committed is done again; nobody needs to wait for it.
        grace=timedelta(seconds=1),
        slow_after=timedelta(seconds=30),
    ),
    # Only takes up what is due: the refreshes themselves go on beside the job.
    Job(
        "refresh_due_sources",
        refresh_due_sources,
        Every(timedelta(seconds=1)),
        deadline=timedelta(seconds=10),
        at_start=True,
    ),
    # Only makes the runs; they are written beside the job, wherever there is room.
    Job(
        "plan_exports",
        plan_exports,
        Every(timedelta(seconds=2)),
        deadline=timedelta(seconds=30),
        at_start=True,
        grace=timedelta(seconds=1),
    ),
    Job(
        "rewrap_export_secrets",
        rewrap_export_secrets,
        Cron("50 * * * *"),
        deadline=timedelta(minutes=10),
        grace=timedelta(seconds=1),
        slow_after=timedelta(seconds=30),
    ),
    Job(
        "expire_source_history",
        expire_source_history,
        Cron("20 * * * *"),
        deadline=timedelta(minutes=10),
        grace=timedelta(seconds=1),
        slow_after=timedelta(seconds=30),
    ),
    Job(
        "expire_export_notices",
        expire_export_notices,
        Cron("40 * * * *"),
        deadline=timedelta(minutes=10),
        grace=timedelta(seconds=1),
        slow_after=timedelta(seconds=30),
    ),
    # In every process: each has a columnar copy of its own. Twice a minute and a half to compare,
    # where the first server fails, and twice a minute to look closely.
    Job(
        "reconcile",
        reconcile,
        Every(timedelta(minutes=5)),
        deadline=timedelta(minutes=6),
        grace=timedelta(seconds=1),
        slow_after=timedelta(seconds=30),
        everywhere=True,
    ),
)

# While there is a replica: so that its lag is a matter of seconds on an idle primary, too.
REPLICA_JOBS: tuple[Job[Resources], ...] = (
    Job(
        "send_heartbeat",
        send_heartbeat,
        Every(timedelta(seconds=1)),
        deadline=timedelta(seconds=5),
    ),
)
