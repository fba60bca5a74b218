"""How late outcomes arrive, what their revisions changed, and what waiting longer would have changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.outcomes import verdict
from flywheel.outcomes.join import arrivals, sql_moment, statement
from flywheel.outcomes.policy import RewardPolicy, Signal, waiting
from flywheel.schema import OUTCOMES
from flywheel.settings import Home

WAITS = (0.0, 1.0, 6.0, 12.0, 24.0, 48.0, 72.0, 168.0)

# Where the curves are taken, in hours after the trajectory's arrival.
HOURS = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 18.0, 24.0, 36.0, 48.0, 72.0, 96.0, 120.0, 168.0, 336.0, 720.0)

LAGS = pa.schema(
    [
        ("signal", pa.string()),
        ("trajectories", pa.int64()),
        ("heard", pa.int64()),
        *((name, pa.float64()) for name in ("p10", "p50", "p90", "p99", "longest")),
    ]
)
CURVES = pa.schema(
    [
        ("signal", pa.string()),
        ("hours", pa.float64()),
        ("trajectories", pa.int64()),
        ("heard", pa.int64()),
        ("share", pa.float64()),
    ]
)
REVISIONS = pa.schema(
    [
        ("signal", pa.string()),
        ("heard", pa.int64()),
        ("revised", pa.int64()),
        ("changed", pa.int64()),
        ("share_changed", pa.float64()),
    ]
)
WAITED = pa.schema(
    [
        ("wait_hours", pa.float64()),
        ("trajectories", pa.int64()),
        ("labelled", pa.int64()),
        ("share_labelled", pa.float64()),
        ("wrong", pa.int64()),
        ("label_error", pa.float64()),
    ]
)


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Arrival lag of a workspace as of a moment, by the signals of a policy, in its order.

    `lags` (rows of `LAGS`): hours from a trajectory's arrival to the first outcome of the signal, as quantiles over
    the trajectories it was heard of; what arrived before its trajectory has a lag of 0. `curves` (`CURVES`): of the
    trajectories that are at least so many `hours` old, the share of which the signal had been heard by then; so
    young ones do not look like silent ones.

    `revisions` (`REVISIONS`): of what was heard (of single steps one each), how much was told more than once, and of
    how much the success is another now than when it was first told. `waits` (`WAITED`): had every verdict been given
    so many hours after the trajectory's arrival, taking silence for its value then: how many of the trajectories
    that old were labelled, and how many of those labels are `wrong` by what is known now. `label_error` is their
    share of those that have a label both then and now.
    """

    lags: pa.Table
    curves: pa.Table
    revisions: pa.Table
    waits: pa.Table


def curves(home: Home, workspace: str, policy: RewardPolicy, as_of: datetime) -> Curves:
    """Arrival lag as of a moment.

    Raises:
        FlywheelError: when `as_of` has no time zone.
    """
    moment = sql_moment(as_of)
    with warehouse.connect() as connection:
        _read(connection, home, workspace, policy, moment)
        order = "ORDER BY position"
        lags = connection.sql(
            f"""
            SELECT any_value(name) AS signal, (SELECT count(*) FROM candidates) AS trajectories, count(hours) AS heard,
                {", ".join(f"quantile_cont(hours, {q}) AS p{round(q * 100)}" for q in (0.1, 0.5, 0.9, 0.99))},
                max(hours) AS longest
            FROM signals LEFT JOIN heard USING (position) GROUP BY position {order}
            """
        ).to_arrow_table()
        shares = connection.sql(
            f"""
            WITH points(hours) AS (SELECT unnest({list(HOURS)}::DOUBLE[])),
            ages AS (
                SELECT hours, count(*) AS trajectories FROM points JOIN candidates ON age >= hours GROUP BY hours
            ),
            by_then AS (
                SELECT position, p.hours, count(*) AS heard
                FROM points AS p JOIN heard AS h ON h.hours <= p.hours AND h.age >= p.hours GROUP BY ALL
            )
            SELECT name AS signal, hours, trajectories, coalesce(heard, 0) AS heard,
                coalesce(heard, 0) / trajectories AS share
            FROM signals CROSS JOIN ages LEFT JOIN by_then USING (position, hours) {order}, hours
            """
        ).to_arrow_table()
        revisions = connection.sql(
            f"""
            WITH units AS (
                SELECT position, trajectory_id, step_index, count(*) AS told,
                    arg_min(success, (arrived_at, observed_at, id)) <> arg_max(success, (observed_at, arrived_at, id))
                        AS differs
                FROM told GROUP BY ALL
            )
            SELECT any_value(name) AS signal, count(told) AS heard, count(*) FILTER (told > 1) AS revised,
                count(*) FILTER (differs) AS changed, changed / nullif(heard, 0) AS share_changed
            FROM signals LEFT JOIN units USING (position) GROUP BY position {order}
            """
        ).to_arrow_table()
        waits = pa.concat_tables([_waited(connection, policy, moment, wait) for wait in WAITS])
    return Curves(
        lags=lags.cast(LAGS), curves=shares.cast(CURVES), revisions=revisions.cast(REVISIONS), waits=waits.cast(WAITED)
    )


def draw(of: Curves, path: Path, title: str = "") -> None:
    """The curves as a PNG: what was heard by when, and what waiting gives and saves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    heard, waited = figure.subplots(1, 2)
    rows = of.curves.to_pylist()
    for signal in dict.fromkeys(row["signal"] for row in rows):
        mine = [row for row in rows if row["signal"] == signal]
        heard.plot([row["hours"] for row in mine], [row["share"] for row in mine], marker=".", label=signal)
    heard.set(xlabel="hours after the trajectory's arrival", ylabel="share heard", ylim=(0, 1.02))
    waits = [row for row in of.waits.to_pylist() if row["trajectories"]]
    for name in ("share_labelled", "label_error"):
        waited.plot(
            [r["wait_hours"] for r in waits], [r[name] for r in waits], marker=".", label=name.replace("_", " ")
        )
    waited.set(xlabel="hours waited before the verdict", ylim=(0, 1.02))
    for axes in (heard, waited):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.set_xticks([0, 1, 6, 24, 72, 168], ["0", "1", "6", "24", "72", "168"])
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _read(connection: duckdb.DuckDBPyConnection, home: Home, workspace: str, policy: RewardPolicy, moment: str) -> None:
    """Tables `signals`, `candidates`, `ledger` (of the candidates), `told` (facts that count) and `heard` (first of a
    signal)."""
    ledger = warehouse.scan_sql(home.outcomes, OUTCOMES, workspace)
    named = ", ".join(f"({n}, {verdict.text(signal.name)})" for n, signal in enumerate(policy.signals))
    connection.sql(
        f"""
        CREATE TABLE signals AS SELECT * FROM (VALUES {named}) AS s(position, name);
        CREATE TABLE candidates AS
        SELECT trajectory_id AS id, arrived_at, task_type, {_hours("arrived_at", moment)} AS age
        FROM {arrivals(home, workspace, policy, moment)};
        CREATE TABLE ledger AS SELECT * FROM {ledger} AS l
        WHERE arrived_at <= {moment} AND isfinite(value) AND ({_counting(policy.signals)});
        CREATE TABLE told AS
        SELECT any_value(position) AS position, l.id, any_value(trajectory_id) AS trajectory_id,
            any_value(step_index) AS step_index, any_value(value) >= {policy.success_at!r} AS success,
            any_value(observed_at) AS observed_at, min(l.arrived_at) AS arrived_at
        FROM ledger AS l JOIN signals ON name = signal JOIN candidates AS c ON c.id = trajectory_id GROUP BY l.id;
        CREATE TABLE heard AS
        SELECT position, greatest({_hours("any_value(c.arrived_at)", "min(t.arrived_at)")}, 0.0) AS hours,
            any_value(age) AS age
        FROM told AS t JOIN candidates AS c ON c.id = trajectory_id GROUP BY position, trajectory_id
        """
    )


def _waited(connection: duckdb.DuckDBPyConnection, policy: RewardPolicy, moment: str, wait: float) -> pa.Table:
    """One row of `WAITED`: each verdict as it would have been so many hours after its trajectory's arrival."""
    at_once = waiting(policy, 0.0)
    old = f"(SELECT id, arrived_at, task_type FROM candidates WHERE age >= {wait!r})"
    by_then = f"""(
        SELECT l.* FROM ledger AS l JOIN candidates AS c ON c.id = l.trajectory_id
        WHERE epoch_us(l.arrived_at) <= epoch_us(c.arrived_at) + {round(wait * 3.6e9)}
    )"""
    here = Home(Path())  # everything is given: nothing is read from a data folder
    then = statement(here, "", at_once, moment, candidates=old, ledger=by_then)
    now = statement(here, "", at_once, moment, candidates=old, ledger="ledger")
    return connection.sql(
        f"""
        SELECT {wait!r}::DOUBLE AS wait_hours, count(*) AS trajectories, count(t.success) AS labelled,
            count(t.success) / nullif(count(*), 0) AS share_labelled, count(*) FILTER (t.success <> n.success) AS wrong,
            count(*) FILTER (t.success <> n.success) / nullif(count(t.success <> n.success), 0) AS label_error
        FROM (SELECT trajectory_id, success FROM ({then})) AS t
        JOIN (SELECT trajectory_id, success FROM ({now})) AS n USING (trajectory_id)
        """
    ).to_arrow_table()


def _counting(signals: tuple[Signal, ...]) -> str:
    return " OR ".join(map(verdict.counts, signals))


def _hours(start: str, end: str) -> str:
    return f"((epoch_us({end}) - epoch_us({start})) / 3.6e9)"
