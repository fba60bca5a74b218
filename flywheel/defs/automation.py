"""Jobs, the nightly turn, and the sensor that answers late outcomes with a new version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from flywheel.capture import workspaces
from flywheel.corpus.manifest import versions as corpus_versions
from flywheel.defs import capture, corpus, evaluate, outcomes, preferences, release, rollout, train
from flywheel.defs.partitions import versions
from flywheel.defs.resources import Wheel
from flywheel.wheel import late, simulation
from flywheel.wheel.versions import following

DAY = [capture.agents, capture.captures, outcomes.outcomes]
TURN = [
    corpus.corpus,
    train.sft,
    rollout.trees,
    preferences.pairs,
    train.dpo,
    train.rejection_sampling,
    evaluate.evaluation,
    release.champion,
    release.champion_episodes,
    release.turn_report,
]

day = dg.define_asset_job(
    "day",
    selection=dg.AssetSelection.assets(*DAY),
    description="One day of captures and outcomes: what arrived is settled into its partition.",
)
turn = dg.define_asset_job(
    "turn",
    selection=dg.AssetSelection.assets(*TURN),
    description="One turn: a corpus version, trees, pairs, policies, evaluation, release, and the champion at work.",
)

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
HELD = dg.SkipReason("a simulated past is being recorded; `flywheel demo` brings it to its end")


@dg.schedule(
    job=day,
    cron_schedule="5 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def close_day(context: dg.ScheduleEvaluationContext, wheel: Wheel) -> dg.RunRequest | dg.SkipReason:
    """Settles the day that has just ended, and what is left of days before it."""
    if simulation.under_way(wheel.home):
        return HELD
    if wheel.config.workspace not in workspaces.names(wheel.home):
        return dg.SkipReason(f"nothing has been captured into workspace {wheel.config.workspace!r} yet")
    ended = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
    if ended < wheel.config.week_start:
        return dg.SkipReason(f"days begin on {wheel.config.week_start}")
    return dg.RunRequest(run_key=ended.isoformat(), partition_key=ended.isoformat())


@dg.schedule(
    job=turn,
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly(context: dg.ScheduleEvaluationContext, wheel: Wheel) -> dg.RunRequest | dg.SkipReason:
    """The whole turn, as of the last midnight, when anything has arrived since the newest version."""
    if simulation.under_way(wheel.home):
        return HELD
    scheduled = context.scheduled_execution_time.astimezone(UTC)
    midnight = scheduled.replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight > datetime.now(UTC):
        return dg.SkipReason(f"{midnight:%Y-%m-%d} is still to come")
    known = context.instance.get_dynamic_partitions("versions")
    newest = late.newest(wheel.home, wheel.config, known)
    since = newest.as_of if newest else None
    if (since and since >= midnight) or not late.arrived(wheel.home, wheel.config, after=since, until=midnight):
        return dg.SkipReason("nothing had arrived since the newest version")
    key = following(known, midnight, corpus_versions(wheel.home, wheel.config.corpus)).key
    # A schedule cannot ask for a partition as a sensor can. Naming the midnight's version is idempotent, and no
    # other name can come of it: a preview in the UI names what this night's tick names, and makes nothing.
    context.instance.add_dynamic_partitions("versions", [key])
    return dg.RunRequest(run_key=key, partition_key=key)


class Cursor(msgspec.Struct, frozen=True):
    """What the sensor has dealt with: the state of the ledger, and the journals that it asked to be settled."""

    seen: str = ""
    settling: str = ""

    def text(self) -> str:
        return msgspec.json.encode(self).decode()


@dg.sensor(
    jobs=[day, turn],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_outcomes(context: dg.SensorEvaluationContext, wheel: Wheel) -> dg.SensorResult | dg.SkipReason:
    """Asks for a new version once late outcomes have changed enough verdicts on the newest one, or long enough ago.

    It changes nothing itself: journals that hold unsettled records are settled by a run of their day, and before a
    version is made, a run of today shows on its partition what arrived. A run that failed is not asked for again:
    execute it again, or backfill its version; what arrives later makes the next one.
    """
    home, config = wheel.home, wheel.config
    if simulation.under_way(home):
        return HELD
    known = context.instance.get_dynamic_partitions("versions")
    newest = late.newest(home, config, known)
    if newest is None:
        return dg.SkipReason("there is no version yet")
    now, quiet = datetime.now(UTC), timedelta(seconds=config.quiet_seconds)
    cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
    waiting = late.unsettled(home, config)
    if waiting and waiting.digest != cursor.settling and now - waiting.latest >= quiet:
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(job_name="day", run_key=f"settle-{waiting.digest}", partition_key=now.date().isoformat())
            ],
            cursor=msgspec.structs.replace(cursor, settling=waiting.digest).text(),
        )
    stored = late.stored(home, config)
    if stored == cursor.seen:
        return dg.SkipReason("no outcome has arrived since the last look")
    if making := context.instance.get_runs(dg.RunsFilter(job_name="turn", statuses=UNFINISHED), limit=1):
        return dg.SkipReason(f"waiting for the turn of {making[0].tags.get('dagster/partition', 'another version')}")
    changes = late.changes(home, config, newest, now)
    looked = msgspec.structs.replace(cursor, seen=stored).text()
    if not changes.rows:
        return dg.SensorResult(skip_reason=f"no verdict on rows of v{newest.number} has changed", cursor=looked)
    if why := late.waiting(changes, config, now):
        # Not looked at for good: the deadline comes without another outcome.
        return dg.SkipReason(why)
    key = following(known, now, corpus_versions(home, config.corpus)).key
    return dg.SensorResult(
        dynamic_partitions_requests=[versions.build_add_request([key])],
        run_requests=[
            dg.RunRequest(job_name="day", run_key=f"heard-{stored}", partition_key=now.date().isoformat()),
            dg.RunRequest(
                job_name="turn",
                run_key=f"{newest.key}:{stored}",
                partition_key=key,
                tags={"flywheel/reason": f"{changes.rows} verdicts on v{newest.number} changed"},
            ),
        ],
        cursor=looked,
    )


@dg.definitions
def automation() -> dg.Definitions:
    """What turns the wheel when nobody looks."""
    return dg.Definitions(jobs=[day, turn], schedules=[close_day, nightly], sensors=[late_outcomes])
