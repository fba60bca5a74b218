"""A workspace of literal trajectories and outcomes, in any order and number of files; and an object store for it."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from flywheel import settings, warehouse
from flywheel.capture import workspaces
from flywheel.curate.spec import Spec
from flywheel.outcomes.policy import RewardPolicy, Signal
from flywheel.schema import Outcome, Step, ToolCall, Trajectory, outcomes_table, trajectories_table
from flywheel.settings import Home

MONDAY = datetime(2026, 11, 2, 12, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
WEDNESDAY = MONDAY + timedelta(days=2)

SPEC = Spec(
    workspace="support",
    filter="reward > 0",
    reward_policy=RewardPolicy(
        signals=(Signal(name="checker"), Signal(name="reopened", required=False, silence=1.0)), combine="min"
    ),
    near_duplicates=None,
)

WORDS = ("refund", "address", "invoice", "password", "delivery", "warranty", "voucher", "subscription")


def trajectory(number: int, arrived_at: datetime = MONDAY) -> Trajectory:
    """One short episode about one order; ids and groups follow from the number."""
    word = WORDS[number % len(WORDS)]
    return Trajectory(
        id=f"t{number:03}",
        workspace="support",
        task_id=f"task-{number}",
        task_group=f"group-{number}",
        task_type="desk",
        agent="scripted",
        end_state="completed",
        arrived_at=arrived_at,
        source="desk.jsonl",
        source_line=number + 1,
        steps=(
            Step(role="system", content="You help."),
            Step(role="user", content=f"My {word} {number} please."),
            Step(
                role="assistant",
                reasoning="Look first.",
                tool_calls=(ToolCall(id="call_0", name="look_up", arguments=f'{{"order": {number}}}'),),
            ),
            Step(role="tool", content="found", tool_call_id="call_0", tool_name="look_up", is_error=False),
            Step(role="assistant", content=f"Your {word} {number} is done."),
        ),
    )


def verdict(number: int, value: float, signal: str = "checker", arrived_at: datetime = MONDAY) -> Outcome:
    """What a checker, or a customer, said of an episode."""
    return Outcome(
        workspace="support",
        trajectory_id=f"t{number:03}",
        signal=signal,
        value=value,
        source="desk",
        observed_at=arrived_at,
        arrived_at=arrived_at,
    )


def write(home: Home, trajectories: Sequence[Trajectory] = (), outcomes: Sequence[Outcome] = ()) -> None:
    """One file a day of what is given."""
    workspaces.create(home, "support")
    if trajectories:
        warehouse.append(home.captures, trajectories_table(list(trajectories)))
    if outcomes:
        warehouse.append(home.outcomes, outcomes_table(list(outcomes)))


@pytest.fixture
def week(home: Home) -> Home:
    """Twelve episodes of a Monday: all succeed but 3 and 7."""
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n not in (3, 7))) for n in range(12)])
    return home


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server on loopback."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'flywheel[s3]'")
    pytest.importorskip("moto", reason="moto, an S3 server, is not installed: pip install 'flywheel[dev]'")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    serving.stop()


@pytest.fixture
def far(server, tmp_path, monkeypatch, request) -> Home:
    """A data folder whose store is a bucket of the test's own."""
    import s3fs

    bucket = f"bucket-{abs(hash(request.node.nodeid)) % 10**12}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(bucket)
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "machine"))
    monkeypatch.setenv("FLYWHEEL_STORE", f"s3://{bucket}/wheel")
    return settings.home()
