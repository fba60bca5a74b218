"""The SQL of verdicts: what a reward policy makes of the facts of a ledger, one row a candidate.

Two ways lead to the same answer. The quick one takes the latest fact of each signal in one aggregation. It also
tells where that is not enough: where several facts were observed at the latest moment, so that arrival and id
must decide, or where voices may disagree. Those candidates, and all of a policy that looks at steps or supersedes
checker versions, go the careful way, which tells facts, voices and steps apart.
"""

from __future__ import annotations

from collections.abc import Collection

from flywheel.outcomes.policy import RewardPolicy, Signal

# The value of one voice of a signal, of its values in the order of the steps.
STEPS = {
    None: "values[1]",
    "mean": "list_sum(values) / len(values)",
    "sum": "list_sum(values)",
    "min": "list_min(values)",
    "last": "values[-1]",
}

# Orders versions such as 1.9 and 1.10 by their numbers: each is written with twenty digits.
VERSION = (
    "list_aggregate(list_transform(regexp_extract_all(checker_version, '[0-9]+|[^0-9]+'), "
    "lambda part: CASE WHEN part[1] BETWEEN '0' AND '9' THEN lpad(part, 20, '0') ELSE part END), 'string_agg', '')"
)

# 2^64: an instant in microseconds times this leaves room for a hash below it.
ROOM = 18446744073709551616


def select(policy: RewardPolicy, candidates: str, ledger: str, as_of: str) -> str:
    """One SELECT of the columns of `join.JOINED`, ordered by trajectory_id.

    `candidates` is a relation of (trajectory_id, arrived_at, task_type), in which an id may stand more than once with
    the same task_type: its first arrival counts. `ledger` is one of the columns of `schema.OUTCOMES`, in which an id
    may stand more than once too; `as_of` a SQL moment. Rows of the ledger about others than the candidates are of no
    account, nor are those that arrived later.
    """
    if not is_quick(policy):
        return f"{careful(policy, candidates, ledger, as_of)} ORDER BY trajectory_id"
    doubtful = "(SELECT trajectory_id, arrived_at, task_type FROM heard WHERE doubt)"
    facts_again = f"(SELECT * FROM {ledger} SEMI JOIN {doubtful} USING (trajectory_id))"
    return f"""
    WITH heard AS MATERIALIZED ({_quick(policy, candidates, ledger, as_of)})
    {_verdicts(policy, "(SELECT * FROM heard WHERE doubt IS NOT TRUE)", as_of, careful=False)}
    UNION ALL
    {careful(policy, doubtful, facts_again, as_of)}
    ORDER BY trajectory_id
    """


def is_quick(policy: RewardPolicy) -> bool:
    """Whether the quick way may be enough."""
    return not any(signal.steps or signal.newest_version for signal in policy.signals)


def quick(policy: RewardPolicy, candidates: str, ledger: str, as_of: str, alone: Collection[str] = ()) -> str:
    """As `select`, of the quick way alone, with one more column: `doubt`, true where only `careful` can tell.

    `alone` names signals of which the ledger is known to have one voice.
    """
    # Ordering the few plain columns first is cheaper than ordering what is made of them; a projection keeps the order.
    heard = f"(FROM ({_quick(policy, candidates, ledger, as_of, alone)}) ORDER BY trajectory_id)"
    return _verdicts(policy, heard, as_of, careful=False, beside=", doubt")


def careful(policy: RewardPolicy, candidates: str, ledger: str, as_of: str) -> str:
    """As `select`, of the careful way alone, in no order."""
    told = _careful(policy, _facts(policy, ledger, as_of))
    heard = f"(FROM {once(candidates)} AS c LEFT JOIN ({told}) USING (trajectory_id))"
    return _verdicts(policy, heard, as_of, careful=True)


def once(candidates: str) -> str:
    """A relation of candidates as `select` takes it, with one row an id."""
    first = "min(arrived_at) AS arrived_at, any_value(task_type) AS task_type"
    return f"(SELECT trajectory_id, {first} FROM {candidates} GROUP BY trajectory_id)"


def text(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def counts(signal: Signal) -> str:
    """The SQL condition on rows of the ledger that a signal of a policy is made of."""
    versions = ", ".join(map(text, signal.checker_versions))
    return (
        f"(signal = {text(signal.name)} AND step_index IS {'NOT NULL' if signal.steps else 'NULL'}"
        + (f" AND checker_version IN ({versions})" if versions else "")
        + ")"
    )


def _facts(policy: RewardPolicy, ledger: str, as_of: str) -> str:
    told = " OR ".join(map(counts, policy.signals))
    columns = "id, trajectory_id, signal, value, source, checker_version, step_index, observed_at, arrived_at"
    return f"(SELECT {columns} FROM {ledger} WHERE arrived_at <= {as_of} AND isfinite(value) AND ({told}))"


def _quick(policy: RewardPolicy, candidates: str, ledger: str, as_of: str, alone: Collection[str] = ()) -> str:
    """For each candidate `value` and `id` of each signal's latest fact, by position, and whether to look again.

    The largest of (instant, hash) and of (instant, -hash) tell whether the facts at the latest instant are one: then
    their hashes are equal. A fact that was told twice is one. Of a signal with one voice, value and instant make a
    fact; what is kept of each trajectory decides the cost, so nothing more is kept of it then.
    """
    doubts: list[str] = []
    columns: list[str] = []
    for n, signal in enumerate(policy.signals):
        where = f"FILTER (signal = {text(signal.name)})" if len(policy.signals) > 1 else ""
        latest = "instant - meant" if signal.name in alone else "observed_at"
        columns += [f"arg_max(value, {latest}) {where} AS value{n}", f"arg_max(id, {latest}) {where} AS id{n}"]
        if signal.name in alone:
            doubts.append(f"max(instant + meant) {where} & {ROOM - 1} <> hash(value{n})")
            continue
        doubts.append(f"(max(instant + said) {where} + max(instant - said) {where}) & {2 * ROOM - 1} <> 0")
        if policy.on_conflict == "hold":
            doubts.append(
                f"(min(voice) {where} <> max(voice) {where} "
                f"AND min(value) {where} < {policy.success_at!r} AND max(value) {where} >= {policy.success_at!r})"
            )
    return f"""
    SELECT * FROM {once(candidates)} AS c LEFT JOIN (
        SELECT trajectory_id, {", ".join(columns)},
            {" OR ".join(f"coalesce({doubt}, false)" for doubt in doubts)} AS doubt
        FROM (
            SELECT *, epoch_us(observed_at)::HUGEINT * {ROOM} AS instant, hash(value) AS meant,
                hash(source, checker_version) AS voice, xor(meant, voice) AS said
            FROM {_facts(policy, ledger, as_of)}
        ) GROUP BY trajectory_id
    ) USING (trajectory_id)
    """


def _careful(policy: RewardPolicy, facts: str) -> str:
    """For each trajectory `value`, `conflict` and `rows` (of value and id) of each signal, by position."""
    steps = any(signal.steps for signal in policy.signals)
    succeeds = f"value >= {policy.success_at!r}"
    columns: list[str] = []
    for n, signal in enumerate(policy.signals):
        where = f"FILTER (signal = {text(signal.name)})"
        # Lists in aggregates are slow: without steps, the latest row says it all.
        value, rows = f"(max(latest) {where}).value", f"[{_row(f'(max(latest) {where})')}]"
        if steps:
            value, rows = f"arg_max(value, latest) {where}", f"arg_max(rows, latest) {where}"
        columns.append(f"{value} AS value{n}, {rows} AS told{n}")
        if policy.on_conflict == "hold":
            voices = f"list({'struct_pack(latest, rows)' if steps else 'latest'}) {where}"
            sorted_rows = (
                f"list_transform(list_sort({voices}), lambda voice: {'voice.rows' if steps else _row('voice')})"
            )
            columns += [
                f"coalesce(NOT bool_and({succeeds}) {where} AND bool_or({succeeds}) {where}, false) AS conflict{n}",
                f"CASE WHEN conflict{n} THEN {f'flatten({sorted_rows})' if steps else sorted_rows} "
                f"ELSE told{n} END AS rows{n}",
            ]
        else:
            columns.append(f"false AS conflict{n}, told{n} AS rows{n}")
    return f"SELECT trajectory_id, {', '.join(columns)} FROM {_voices(policy, facts)} GROUP BY trajectory_id"


def _voices(policy: RewardPolicy, facts: str) -> str:
    """What each voice says of a signal: `value`, the `latest` fact that makes it, and with steps all of its `rows`."""
    steps = any(signal.steps for signal in policy.signals)
    latest = f"""
        SELECT trajectory_id, signal, source, checker_version, step_index,
            max(struct_pack(observed_at, arrived_at, id, value)) AS latest
        FROM (SELECT * EXCLUDE (arrived_at), min(arrived_at) AS arrived_at FROM {facts} GROUP BY ALL) GROUP BY ALL
    """
    said = f"SELECT *, latest.value AS value FROM ({latest})"
    if steps:
        value = " ".join(f"WHEN {text(signal.name)} THEN {STEPS[signal.steps]}" for signal in policy.signals)
        said = f"""
            SELECT *, CASE signal {value} END AS value FROM (
                SELECT trajectory_id, signal, source, checker_version, max(latest) AS latest,
                    list(latest.value ORDER BY step_index) AS values,
                    list({_row("latest")} ORDER BY step_index) AS rows
                FROM ({latest}) GROUP BY ALL
            )
        """
    newest = ", ".join(text(signal.name) for signal in policy.signals if signal.newest_version)
    if not newest:
        return f"({said})"
    return f"""(
        SELECT trajectory_id, signal, newest.* FROM (
            SELECT trajectory_id, signal, arg_max(
                struct_pack(latest, value{", rows" if steps else ""}), ({VERSION}, checker_version)) AS newest
            FROM ({said})
            GROUP BY trajectory_id, signal, source, CASE WHEN signal IN ({newest}) THEN '' ELSE checker_version END
        )
    )"""


def _row(fact: str) -> str:
    return f"struct_pack(value := {fact}.value, id := {fact}.id)"


def _verdicts(policy: RewardPolicy, heard: str, as_of: str, *, careful: bool, beside: str = "") -> str:
    """A SELECT of the columns of `join.JOINED` over what was heard of each signal, the careful way or the quick one."""
    signals = list(enumerate(policy.signals))
    spoke = ", ".join(f"CASE WHEN value{n} IS NOT NULL THEN {signal.tier} END" for n, signal in signals)
    assumed = max((signal.tier for signal in policy.signals if signal.silence is not None), default=None)
    first = min(signal.tier for signal in policy.signals)
    tiers = f"greatest({spoke}) AS spoke, coalesce(spoke, {'NULL' if assumed is None else assumed}) AS tier, "
    if all(signal.tier == first for signal in policy.signals):
        tiers = f"{first} AS spoke, {first} AS tier, "
    made: list[str] = []
    for n, signal in signals:
        silent = f"value{n} IS NULL AND {signal.tier} >= coalesce(spoke, {first})"
        made += [
            f"CASE WHEN {silent} THEN {_waited(signal)} ELSE arrived_at END AS due{n}",
            f"CASE WHEN tier = {signal.tier} THEN value{n} END AS said{n}",
            f"CASE WHEN tier = {signal.tier} THEN coalesce(value{n}, {_number(signal.silence)}) END AS counted{n}",
            f"{silent} AND {signal.required and signal.silence is None} AS missing{n}",
            f"{f'tier = {signal.tier} AND coalesce(conflict{n}, false)' if careful else 'false'} AS held{n}",
        ]
    each = {name: [f"{name}{n}" for n, _ in signals] for name in ("due", "said", "counted", "missing", "held")}
    weighted = " + ".join(f"coalesce(counted{n} * {signal.weight!r}, 0.0)" for n, signal in signals)
    weights = " + ".join(f"CASE WHEN counted{n} IS NULL THEN 0.0 ELSE {signal.weight!r} END" for n, signal in signals)
    combined = {
        "min": f"least({', '.join(each['counted'])})",
        "mean": f"({weighted}) / ({weights})",
        "first": f"coalesce({', '.join(each['said'] + each['counted'])})",
    }[policy.combine]
    entries = ", ".join(_entry(policy, n, as_of, careful=careful) for n, _ in signals)
    return f"""
    SELECT trajectory_id, state, reward, reward >= {policy.success_at!r} AS success,
        {entries if len(signals) == 1 else f"flatten([{entries}])"} AS signals, matures_at{beside}
    FROM (
        SELECT *, CASE WHEN state = 'resolved' THEN {combined} + 0.0 END AS reward
        FROM (
            SELECT *, greatest({", ".join(each["due"])}) AS matures_at,
                CASE WHEN matures_at > {as_of} THEN 'pending' WHEN {" OR ".join(each["held"])} THEN 'conflicting'
                    WHEN {" OR ".join(each["missing"])} OR coalesce({", ".join(each["counted"])}) IS NULL THEN 'expired'
                    ELSE 'resolved' END AS state
            FROM (SELECT *, {tiers}{", ".join(made)} FROM {heard})
        )
    )
    """


def _entry(policy: RewardPolicy, n: int, as_of: str, *, careful: bool) -> str:
    """The entries of one signal in `signals`: what it said, or what its silence is taken for."""
    signal = policy.signals[n]
    before = " OR ".join(f"said{m} IS NOT NULL" for m in range(n)) if policy.combine == "first" else ""
    passed = " OR ".join(
        [f"said{m} IS NOT NULL" for m in range(len(policy.signals))] + [f"counted{m} IS NOT NULL" for m in range(n)]
    )
    role = (
        f"CASE WHEN tier <> {signal.tier} THEN 'outranked' WHEN held{n} THEN 'conflict' "
        f"WHEN {before or 'false'} THEN 'outranked' ELSE 'counted' END"
    )
    fixed = f"signal := {text(signal.name)}, value := {{}}, outcome_id := {{}}, weight := {signal.weight!r}::DOUBLE"
    if careful:
        heard = f"struct_pack({fixed.format('heard.value', 'heard.id')}, role := {role})"
        spoken = f"list_transform(rows{n}, lambda heard: {heard})"
    else:
        spoken = f"[struct_pack({fixed.format(f'value{n}', f'id{n}')}, role := {role})]"
    if signal.silence is None:
        return f"CASE WHEN value{n} IS NULL THEN [] ELSE {spoken} END"
    role = f"CASE WHEN {passed} THEN 'outranked' ELSE 'assumed' END" if policy.combine == "first" else "'assumed'"
    silence = f"struct_pack({fixed.format(_number(signal.silence), 'NULL::VARCHAR')}, role := {role})"
    return (
        f"CASE WHEN value{n} IS NOT NULL THEN {spoken} "
        f"WHEN tier = {signal.tier} AND due{n} <= {as_of} THEN [{silence}] ELSE [] END"
    )


def _waited(signal: Signal) -> str:
    """The end of a signal's wait."""
    other = " ".join(f"WHEN {text(of)} THEN {_micros(hours)}" for of, hours in sorted(signal.wait_by_task_type.items()))
    wait = f"CASE task_type {other} ELSE {_micros(signal.wait_hours)} END" if other else str(_micros(signal.wait_hours))
    # Adding an interval would ask a calendar, which is slow.
    return "arrived_at" if wait == "0" else f"make_timestamptz(epoch_us(arrived_at) + {wait})"


def _micros(hours: float) -> int:
    return round(hours * 3.6e9)


def _number(value: float | None) -> str:
    return "NULL::DOUBLE" if value is None else f"{value!r}::DOUBLE"
