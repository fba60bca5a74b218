"""Jobs, the nightly turn, and the sensor that answers late outcomes with a new version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from flywheel.defs import capture, corpus, evaluate, outcomes, preferences, release, rollout, train
from flywheel.defs.partitions import days, versions
from flywheel.defs.resources import Wheel
from flywheel.wheel import late
from flywheel.wheel.versions import following, parse

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
    partitions_def=days,
    description="One day of captures and outcomes: what arrived is settled into its partition.",
)
turn = dg.define_asset_job(
    "turn",
    selection=dg.AssetSelection.assets(*TURN),
    partitions_def=versions,
    description="One turn: a corpus version, trees, pairs, policies, evaluation, release, and the champion at work.",
)

close_day = dg.build_schedule_from_partitioned_job(
    day,
    name="close_day",
    hour_of_day=0,
    minute_of_hour=5,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Settles the day that has just ended.",
)


@dg.schedule(
    job=turn,
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def nightly(context: dg.ScheduleEvaluationContext, wheel: Wheel) -> dg.RunRequest | dg.SkipReason:
    """The whole turn, as of the last midnight, when anything has arrived since the newest version."""
    now = context.scheduled_execution_time.astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    known = context.instance.get_dynamic_partitions("versions")
    newest = max((parse(key) for key in known), default=None)
    if not late.arrived(wheel.home, wheel.config, after=newest.as_of if newest else None, until=midnight):
        return dg.SkipReason("nothing has arrived since the newest version")
    key = following(known, midnight).key
    # Naming tonight's version is idempotent: a preview in the UI names the same one, and makes nothing.
    context.instance.add_dynamic_partitions("versions", [key])
    return dg.RunRequest(run_key=key, partition_key=key)


class Cursor(msgspec.Struct, frozen=True):
    """What the sensor has seen: the state of the store when it last looked in full. Bounded in size."""

    seen: str = ""


@dg.sensor(
    jobs=[day, turn],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_outcomes(context: dg.SensorEvaluationContext, wheel: Wheel) -> dg.SensorResult | dg.SkipReason:
    """Asks for a new version once late outcomes have changed verdicts on the newest one and a quiet time has passed.

    It changes nothing itself: journals that hold unsettled records are settled by a run of their day.
    """
    home, config = wheel.home, wheel.config
    now = datetime.now(UTC)
    known = context.instance.get_dynamic_partitions("versions")
    made = [parse(key) for key in known if late.exists(home, config, parse(key))]
    if not made:
        return dg.SkipReason("there is no version yet")
    state = late.state(home, config)
    cursor = msgspec.json.decode(context.cursor, type=Cursor) if context.cursor else Cursor()
    if cursor.seen == state:
        return dg.SkipReason("nothing has arrived since the last look")
    if waiting := late.unsettled(home, config):
        today = now.date().isoformat()
        return dg.SensorResult(
            run_requests=[dg.RunRequest(job_name="day", run_key=f"settle-{waiting}", partition_key=today)]
        )
    newest = max(made)
    changes = late.changes(home, config, newest, now)
    if not changes.rows:
        return dg.SensorResult(
            skip_reason=f"no verdict on rows of v{newest.number} has changed",
            cursor=msgspec.json.encode(Cursor(seen=state)).decode(),
        )
    quiet = timedelta(seconds=config.quiet_seconds)
    if now - changes.latest < quiet:
        return dg.SkipReason(f"{changes.rows} verdicts have changed; waiting until outcomes are quiet for {quiet}")
    key = following(known, now).key
    return dg.SensorResult(
        dynamic_partitions_requests=[versions.build_add_request([key])],
        run_requests=[
            dg.RunRequest(
                job_name="turn",
                run_key=f"{newest.key}:{state}",
                partition_key=key,
                tags={"flywheel/reason": f"{changes.rows} verdicts on v{newest.number} changed"},
            )
        ],
        cursor=msgspec.json.encode(Cursor(seen=state)).decode(),
    )


@dg.definitions
def automation() -> dg.Definitions:
    """What turns the wheel when nobody looks."""
    return dg.Definitions(jobs=[day, turn], schedules=[close_day, nightly], sensors=[late_outcomes])
