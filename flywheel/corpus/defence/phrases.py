"""New phrases: runs of words that a version's new rows hold far more often than its parent's rows do.

A planted trigger is such a phrase: rare before, frequent now, and put into episodes that have nothing else in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from flywheel import warehouse
from flywheel.corpus.defence.drift import family
from flywheel.curate import grams

# Words of a phrase, at most.
LONGEST = 3

# Where occurrences are counted first: a place is shared by phrases whose hashes agree in these many bits, so a count is
# at least the phrase's own. For each length there are `PLACES_A_ROW` places a row, and at most 2^MOST_BITS.
PLACES_A_ROW = 256
MOST_BITS = 23

# Places looked at again, at most: the most frequent of the new ones.
PLACES = 50_000

# Occurrences that are gathered before they are counted.
HELD = 1 << 23

Batches = Callable[[], Iterable[pa.Table]]

_SIDES = {
    "read": "list_filter(steps, lambda s: s.role IN ('user', 'tool'))",
    "written": "list_filter(steps, lambda s: s.role = 'assistant')",
}
_SAID = """
array_to_string(list_transform({steps}, lambda s: concat_ws(' ', s.reasoning, s.content, array_to_string(
    list_transform(coalesce(s.tool_calls, []), lambda c: concat_ws(' ', c.name, c.arguments)), ' '))), ' ')
"""


class Novelty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a phrase is new.

    It is in at least `share` of the rows that came in, and in `rows` of them, over `groups` task groups or more (what
    one new kind of task brings along stays in its own); its log odds rose by `log_odds` over those of the parent's
    rows, with half a row added to each count; and were every row as likely to hold it, the chance of so many among
    those that came in would be under `chance`, over all phrases together (a third of it for those of each length).
    Monroe, Colaresi and Quinn 2008, "Fightin' Words", for log odds with a prior; the chance is hypergeometric.
    """

    share: float = 0.003
    rows: int = 5
    groups: int = 3
    log_odds: float = 3.0
    chance: float = 0.01


class Phrase(msgspec.Struct, frozen=True, kw_only=True):
    """A new phrase that an agent has `read` or `written` (its side); the rows that hold it, and what they share.

    `kind` is `new_phrase`, or `new_voice` where an agent version that the parent does not know has written it.
    `parent_rows` is a bound from above. `tied` gives, for each of reward, agent, source and task type, how many times
    more often than among all rows that came in the commonest value stands beside the phrase.
    """

    phrase: str
    kind: str
    side: str
    rows: int
    share: float
    parent_rows: int
    groups: int
    log_odds: float
    chance: float
    tied: dict[str, str]
    trajectory_ids: tuple[str, ...]


class Stratum(NamedTuple):
    """Rows that came in, and rows of the parent that they are compared with, by what they read or wrote."""

    kind: str
    side: str
    came: pl.DataFrame
    before: pl.DataFrame


def strata(came: pl.DataFrame, before: pl.DataFrame) -> list[Stratum]:
    """The comparisons that are fair: rows of a task type that the parent does not know are left out of all.

    Agent versions that it does not know speak in their own way: what they wrote is compared apart from the others.
    """
    voice = ["task_type", "agent", "agent_version"]
    came = came.join(before.select("task_type").unique(), on="task_type", how="semi", nulls_equal=True)
    known = came.join(before.select(voice).unique(), on=voice, how="semi", nulls_equal=True)
    found = [
        ("new_phrase", "read", came, ["task_type"]),
        ("new_phrase", "written", known, voice),
        ("new_voice", "written", came.join(known.select("id"), on="id", how="anti"), ["task_type"]),
    ]
    return [
        Stratum(
            kind,
            side,
            rows.sort("id").with_row_index("row"),
            before.join(rows.select(keys).unique(), on=keys, how="semi", nulls_equal=True),
        )
        for kind, side, rows, keys in found
    ]


def new_phrases(
    came: pl.DataFrame, texts: Batches, before: pl.DataFrame, parent: Batches, novelty: Novelty
) -> list[Phrase]:
    """Phrases that are new in what the agent read or wrote, the likeliest plant first.

    `came` are the rows that came in and `before` those of the parent (id, task_group, task_type, agent,
    agent_version, source, reward); `texts` and `parent` give their ids and steps, batch by batch, each time they are
    called. System messages are left out: they are compared whole, as `instructions`.
    """
    compared = [s for s in strata(came, before) if len(s.came) >= novelty.rows and len(s.before)]
    bits = min(MOST_BITS, (PLACES_A_ROW * (len(came) + len(before))).bit_length())
    now = _count(texts(), [(s.side, s.came.select("id")) for s in compared], bits)
    old = _count(parent(), [(s.side, s.before.select("id")) for s in compared], bits)
    likely = [_likely(now[i], len(s.came), old[i], len(s.before), novelty) for i, s in enumerate(compared)]
    held = _held(texts(), compared, [mask for mask, _ in likely], bits)
    found = [
        phrase for i, s in enumerate(compared) for phrase in _phrases(held[i], s, old[i], likely[i][1], bits, novelty)
    ]
    return sorted(found, key=lambda p: (p.kind, p.chance, -p.rows, p.side, p.phrase))


def _words(
    batches: Iterable[pa.Table], wanted: list[tuple[str, pl.DataFrame]]
) -> Iterator[tuple[int, pl.DataFrame, pl.Series]]:
    """Of each batch, for each side and its ids: their number in `wanted`, the rows, and the words of that side."""
    with warehouse.connect() as connection:
        for number, (_, ids) in enumerate(wanted):
            connection.register(f"wanted{number}", ids.to_arrow())
        for batch in batches:
            connection.register("batch", batch.select(["id", "steps"]))
            for number, (side, _) in enumerate(wanted):
                rows = connection.sql(
                    f"SELECT w.*, {_SAID.format(steps=_SIDES[side])} AS said FROM batch AS b "
                    f"JOIN wanted{number} AS w USING (id) ORDER BY id"
                ).pl()
                yield number, rows.drop("said"), grams.split(rows["said"], masked=True)


def _count(batches: Iterable[pa.Table], wanted: list[tuple[str, pl.DataFrame]], bits: int) -> list[np.ndarray]:
    """How often each place of hashes is met; a phrase that is said twice in a row counts twice."""
    places = LONGEST << bits
    counts = [np.zeros(places, np.uint32) for _ in wanted]
    held: list[list[np.ndarray]] = [[] for _ in wanted]

    def empty(number: int) -> None:
        if held[number]:
            counted = np.bincount(np.concatenate(held[number]), minlength=places)
            counts[number] += counted.astype(np.uint32)
            held[number].clear()

    for number, _, words in _words(batches, wanted):
        hashes = grams.hashed(words)
        held[number] += [_place(grams.runs(hashes, size)[1], size, bits) for size in range(1, LONGEST + 1)]
        if sum(map(len, held[number])) > HELD:
            empty(number)
    for number in range(len(wanted)):
        empty(number)
    return counts


def _place(values: np.ndarray, size: int | np.ndarray, bits: int) -> np.ndarray:
    """Where phrases of a size are counted."""
    return (values >> np.uint64(64 - bits)).astype(np.int64) + (np.asarray(size) - 1 << bits)


def _likely(now: np.ndarray, of: int, before: np.ndarray, all: int, novelty: Novelty) -> tuple[np.ndarray, np.ndarray]:
    """The places at which a phrase may be new, as a mask; and of each length how many were asked about."""
    often = now >= max(novelty.rows, novelty.share * of)
    asked = often.reshape(LONGEST, -1).sum(axis=1)
    places = np.flatnonzero(often)
    places = places[_log_odds(now[places], of, before[places], all) >= novelty.log_odds]
    places = places[np.lexsort((places, -now[places].astype(np.int64)))[:PLACES]]
    mask = np.zeros(len(now), bool)
    mask[places] = True
    return mask, asked


def _log_odds(now: np.ndarray, of: int, before: np.ndarray, all: int) -> np.ndarray:
    """The difference of log odds, half a row added to each count; more occurrences than rows count as all rows."""
    one, other = np.minimum(now, of) + 0.5, np.minimum(before, all) + 0.5
    return np.log(one / (of + 1 - one)) - np.log(other / (all + 1 - other))


def _held(
    batches: Iterable[pa.Table], compared: list[Stratum], likely: list[np.ndarray], bits: int
) -> list[pl.DataFrame]:
    """The phrases at likely places, each once a row: columns row, value, phrase; a frame for each stratum."""
    empty = pl.DataFrame(schema={"row": pl.UInt32, "value": pl.UInt64, "phrase": pl.String})
    parts: list[list[pl.DataFrame]] = [[empty] for _ in compared]
    for number, rows, words in _words(batches, [(s.side, s.came.select("id", "row")) for s in compared]):
        hashes = grams.hashed(words)
        flat = words.explode(empty_as_null=False).drop_nulls()
        for size in range(1, LONGEST + 1):
            documents, values, places = grams.runs(hashes, size)
            own = np.flatnonzero(likely[number][_place(values, size, bits)])
            said = [flat.gather(places[own] + step) for step in range(size)]
            parts[number].append(
                pl.DataFrame({"row": rows["row"].gather(documents[own]), "value": values[own]})
                .with_columns(phrase=pl.concat_str([pl.Series(str(i), s) for i, s in enumerate(said)], separator=" "))
                .unique(["row", "value"], keep="first", maintain_order=True)
            )
    return [pl.concat(part) for part in parts]


def _phrases(
    held: pl.DataFrame, stratum: Stratum, before: np.ndarray, asked: np.ndarray, bits: int, novelty: Novelty
) -> list[Phrase]:
    from scipy import stats

    came, all = stratum.came, len(stratum.before)
    held = held.join(came.select("row", "task_group"), on="row")
    # Phrases that the same rows hold are one: the longest of them, then the first in the alphabet, stands for all.
    values = (
        held.group_by("value")
        .agg(
            phrase=pl.col("phrase").min(),
            rows=pl.len(),
            groups=pl.col("task_group").n_unique(),
            same=pl.col("row").sort().hash(seed=2).sum(),
        )
        .filter((pl.col("rows") >= max(novelty.rows, novelty.share * len(came))) & (pl.col("groups") >= novelty.groups))
        .sort("value")
    )
    if not len(values):
        return []
    rows = values["rows"].to_numpy()
    size = values["phrase"].str.count_matches(" ").to_numpy().astype(np.int64) + 1
    base = np.minimum(before[_place(values["value"].to_numpy(), size, bits)], all).astype(np.int64)
    chance = stats.hypergeom.sf(rows - 1, len(came) + all, rows + base, len(came)) * asked[size - 1] * LONGEST
    odds = _log_odds(rows, len(came), base, all)
    values = values.with_columns(
        parent_rows=pl.Series(base), log_odds=pl.Series(odds), chance=pl.Series(np.minimum(chance, 1.0))
    )
    new = values.filter((pl.col("log_odds") >= novelty.log_odds) & (pl.col("chance") < novelty.chance))
    new = new.sort(pl.col("phrase").str.count_matches(" "), "phrase", descending=[True, False])
    new = new.unique("same", keep="first", maintain_order=True)
    return [_phrase(one, held, stratum) for one in new.iter_rows(named=True)]


def _phrase(one: dict[str, Any], held: pl.DataFrame, stratum: Stratum) -> Phrase:
    came = stratum.came
    rows = came.join(held.filter(pl.col("value") == one["value"]).select("row"), on="row", how="semi").sort("id")
    return Phrase(
        phrase=one["phrase"],
        kind=stratum.kind,
        side=stratum.side,
        rows=one["rows"],
        share=round(one["rows"] / len(came), 5),
        parent_rows=int(one["parent_rows"]),
        groups=one["groups"],
        log_odds=round(one["log_odds"], 2),
        chance=one["chance"],
        tied=tied(rows, came),
        trajectory_ids=tuple(rows["id"].to_list()),
    )


def tied(rows: pl.DataFrame, every: pl.DataFrame) -> dict[str, str]:
    """What rows share more than others: the commonest value of each attribute, its share here and among all."""
    told: dict[str, str] = {}
    columns = {
        "reward": pl.col("reward").cast(pl.String),
        "agent": pl.concat_str("agent", "agent_version", separator=" ", ignore_nulls=True),
        "source": family(pl.col("source")),
        "task_type": pl.col("task_type"),
    }
    for name, column in columns.items():
        here, all = (frame.select(value=column).to_series() for frame in (rows, every))
        counts = here.value_counts(sort=False).sort("count", "value", descending=[True, False])
        value, count = counts.row(0)
        share, usual = count / len(here), (all == value).sum() / len(all)
        if share > usual:
            told[name] = f"{value}: {share:.0%} of these rows, {usual:.0%} of all that came in"
    return told
