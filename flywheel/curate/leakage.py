"""Leakage: training rows that give away what a policy will be evaluated on."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import polars as pl
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate import grams, passages
from flywheel.curate.nearness import Index

# What an evaluation shows, and what it keeps to itself. `answers` are reference answers; `state` is the state in which
# the task begins, as text or as a digest of at least 32 hexadecimal digits.
TASKS = pa.schema(
    [
        ("suite", pa.string()),
        ("task_id", pa.string()),
        ("task_group", pa.string()),
        ("text", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("state", pa.string()),
    ]
)

LEAKS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("task_id", pa.string()),
        ("suite", pa.string()),
        ("evaluation_task_id", pa.string()),
        ("kind", pa.string()),
        ("similarity", pa.float64()),
        ("training_excerpt", pa.string()),
        ("evaluation_excerpt", pa.string()),
    ]
)

# What is read of a training row.
COLUMNS = ("id", "task_id", "task_group", "metadata", "steps")

KINDS = ("task", "group", "exact", "near", "quoted", "reference answer", "shared state")

# Kinds that say nothing where many rows show them.
COUNTED = ("reference answer", "shared state")

# Rows that are worked on at once, and the characters of an excerpt.
ROWS = 8192
EXCERPT = 240

_FOUND = {"row": pl.UInt32, "e": pl.UInt32, "kind": pl.String, "similarity": pl.Float64, "excerpt": pl.String}
_STATE = "sha256(CASE WHEN regexp_full_match({0}, '[0-9a-fA-F]{{32,128}}') THEN lower({0}) ELSE 'text:' || {0} END)"


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as a leak.

    Prompts are short, and a held-out template may share all but its frame with one that is trained on. So a text is
    `near` if a word was put before or after it (in a dozen words or more) or changed within it (in sixty): a Jaccard
    similarity of `near` over runs of `shingle` words. A task's text of `quoted_words` or more that stands word
    for word in a row that is otherwise unlike it is `quoted` (thirteen: Brown et al. 2020, arXiv:2005.14165, app. C).

    A reference answer counts where it is specific: `answer_words` words and `answer_characters` characters or more,
    or one word of `identifier` characters or more that mixes letters and digits; it is not in its task's own text,
    and not the answer of more than `common` tasks. Shorter ones ("yes", "42", "Paris") stand in many texts by
    chance. An initial state counts unless more than `common` tasks begin in it. An answer or a state that is in more
    than one row in `idiom`, and in more than twenty, belongs to the environment and not to a task.
    """

    near: float = 0.9
    shingle: int = 3
    quoted_words: int = 13
    answer_words: int = 5
    answer_characters: int = 24
    identifier: int = 10
    common: int = 3
    idiom: int = 50


def audit(training: pa.Table | Iterable[pa.Table], evaluation: pa.Table, rules: Rules = Rules()) -> pa.Table:
    """The training rows that leak, as rows of `LEAKS`: none where all is well.

    `training` has id, task_id, task_group and steps, and metadata where a row says in what state it began
    (`initial_state`, a string); a table, or tables that are read one after the other. `evaluation` has task_id,
    task_group and text (what a task shows the policy, or a whole episode as `fingerprint.EPISODE` gives it), and
    the other columns of `TASKS` where a suite says them.

    `kind` is `task` (the same task), `group` (another task of the same group), `exact` (the same words in the
    first thing that the user says, or in the whole episode), `near` (nearly the same words, with their Jaccard
    similarity), `quoted`, `reference answer` or `shared state`, as `Rules` has them. Each training row is named
    once for each kind, with the most similar evaluation task, then the first by id and suite. Ordered by
    trajectory_id, then kind.
    """
    auditor = _Auditor(evaluation, rules)
    tables = [training] if isinstance(training, pa.Table) else training
    found = [auditor.look(part) for table in tables for part in _parts(table)]
    return auditor.leaks(found)


def _parts(table: pa.Table) -> Iterable[pa.Table]:
    return (table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS))


class _Auditor:
    """The evaluation side, indexed once; training rows pass by it."""

    def __init__(self, evaluation: pa.Table, rules: Rules) -> None:
        self._rules = rules
        self._rows = 0
        self._tasks = _tasks(evaluation)
        self._words = grams.split(self._tasks["text"])
        self._texts = pl.DataFrame({"e": self._tasks["e"], "normal": self._words.list.join(" ")})
        self._texts = self._texts.filter(pl.col("normal") != "").unique("normal", keep="first", maintain_order=True)
        self._near = Index(self._words.gather(self._texts["e"]), rules.near, rules.shingle)
        self._passages = passages.Passages(self._needles())
        few = pl.col("task_id").n_unique().over("begins") <= rules.common
        self._states = self._tasks.filter(pl.col("begins").is_not_null() & few).unique("begins", keep="first")

    def look(self, table: pa.Table) -> pl.DataFrame:
        """What one batch of training rows gives away."""
        rows = grams.said(table).with_row_index("row")
        ids = pl.DataFrame({name: pl.from_arrow(table[name]) for name in ("task_id", "task_group")})
        rows = pl.concat([rows, ids], how="horizontal")
        self._rows += len(rows)
        # Many rows say the same: each text is looked at once.
        said = rows.unpivot(["prompt", "text", "system"], index="row", variable_name="part", value_name="raw")
        texts = said.select("raw").unique(maintain_order=True).filter(pl.col("raw") != "").with_row_index("doc")
        said = said.join(texts, on="raw", how="inner", maintain_order="left").select("row", "part", "doc")
        words = grams.split(texts["raw"])
        hashes = grams.hashed(words)
        found = [
            *self._by_name(rows),
            self._by_words(said, words, hashes),
            self._by_passage(said, texts["raw"], words, hashes),
            self._by_state(table),
        ]
        told = rows.select("row", trajectory_id="id", task_id="task_id", said=pl.col("prompt").str.slice(0, EXCERPT))
        return (
            pl.concat([part.select(pl.col(n).cast(t) for n, t in _FOUND.items()) for part in found])
            .sort("row", "kind", "similarity", "e", descending=[False, False, True, False], nulls_last=True)
            .filter((pl.int_range(pl.len()).over("row", "kind") == 0) | pl.col("kind").is_in(COUNTED))
            .join(told, on="row", how="left", maintain_order="left")
            .with_columns(pl.coalesce("excerpt", "said").alias("training_excerpt"))
            .select("trajectory_id", "task_id", "e", "kind", "similarity", "training_excerpt")
        )

    def leaks(self, found: list[pl.DataFrame]) -> pa.Table:
        """Findings of all batches as rows of `LEAKS`."""
        if not found:
            return LEAKS.empty_table()
        every = pl.concat(found)
        # What is in so many rows is the environment's way of speaking, or where all of its tasks begin.
        seen = every.filter(pl.col("kind").is_in(COUNTED))
        usual = seen.group_by("e", "kind").len().filter(pl.col("len") > max(20, self._rows // self._rules.idiom))
        told = self._tasks.select(
            "e",
            "suite",
            evaluation_task_id="task_id",
            shown=pl.col("text").str.slice(0, EXCERPT),
            secret=pl.col("answers").list.join(" | ").str.slice(0, EXCERPT),
        )
        # A row that is nearly the whole text need not be told again to quote it.
        alike = every.filter(pl.col("kind").is_in(["exact", "near"])).select("trajectory_id", kind=pl.lit("quoted"))
        rows = (
            every.join(usual, on=["e", "kind"], how="anti", maintain_order="left")
            .join(alike, on=["trajectory_id", "kind"], how="anti", maintain_order="left")
            .unique(["trajectory_id", "kind"], keep="first", maintain_order=True)
            .join(told, on="e", how="left", maintain_order="left")
            .with_columns(
                evaluation_excerpt=pl.when(pl.col("kind") == "reference answer").then("secret").otherwise("shown")
            )
            .sort("trajectory_id", "kind")
        )
        return rows.select(LEAKS.names).to_arrow().cast(LEAKS)

    def _by_name(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        tasks = self._tasks.select("e", "task_id", "task_group")
        same = rows.select("row", "task_id").join(tasks.unique("task_id", keep="first"), on="task_id")
        # Of each group two tasks are enough: one of them is another than the row's own.
        two = tasks.unique(["task_group", "task_id"], keep="first").sort("e").group_by("task_group").head(2)
        other = rows.select("row", "task_id", "task_group").join(two, on="task_group", suffix="_shown")
        other = other.filter(pl.col("task_id") != pl.col("task_id_shown"))
        return [_found(same, "task"), _found(other, "group")]

    def _by_words(self, said: pl.DataFrame, words: pl.Series, hashes: grams.Words) -> pl.DataFrame:
        said = said.filter(pl.col("part") != "system")
        normal = pl.DataFrame({"normal": words.list.join(" ")}).with_row_index("doc")
        exact = normal.join(self._texts, on="normal").select("doc", "e")
        near = self._near.find(hashes)
        near = near.select("doc", "similarity", e=self._texts["e"].gather(near["text"]))
        near = near.join(exact.select("doc", "e"), on=["doc", "e"], how="anti")
        found = pl.concat([_found(exact, "exact", "doc", 1.0), _found(near, "near", "doc", None)])
        return said.join(found, on="doc").select(list(_FOUND))

    def _by_passage(self, said: pl.DataFrame, raw: pl.Series, words: pl.Series, hashes: grams.Words) -> pl.DataFrame:
        said = said.filter(pl.col("part") != "prompt")
        hits = self._passages.find(words, hashes)
        told = [passages.excerpt(raw[doc], needle, EXCERPT) for doc, needle in hits.select("doc", "needle").iter_rows()]
        hits = hits.with_columns(excerpt=pl.Series(told, dtype=pl.String), similarity=pl.lit(None, pl.Float64))
        return said.join(hits, on="doc").select(list(_FOUND))

    def _by_state(self, table: pa.Table) -> pl.DataFrame:
        if not len(self._states) or "metadata" not in table.column_names:
            return pl.DataFrame(schema=_FOUND)
        metadata = pl.DataFrame({"metadata": pl.from_arrow(table["metadata"])}).with_row_index("row")
        spoken = metadata.filter(pl.col("metadata").str.contains("initial_state", literal=True))
        with warehouse.connect() as connection:
            connection.register("spoken", spoken.to_arrow())
            begins = connection.sql(
                f"""
                SELECT row, {_STATE.format("said")} AS begins FROM (
                    SELECT row, json_extract_string(metadata, '$.initial_state') AS said FROM spoken
                ) WHERE said <> '' ORDER BY row
                """
            ).pl()
        return _found(begins.join(self._states.select("e", "begins"), on="begins"), "shared state")

    def _needles(self) -> pl.DataFrame:
        """What is looked for word for word: columns e, kind and needle (its words, one space between)."""
        rules, shown = self._rules, self._texts
        texts = shown.select("e", kind=pl.lit("quoted"), needle="normal").filter(
            pl.col("needle").str.count_matches(" ") + 1 >= rules.quoted_words
        )
        own = pl.DataFrame({"e": self._tasks["e"], "own": " " + self._words.list.join(" ") + " "})
        answers = self._tasks.select("e", "task_id", "answers").explode("answers").drop_nulls("answers")
        answers = answers.with_columns(needle=grams.split(answers["answers"]).list.join(" ")).join(own, on="e")
        long = (pl.col("needle").str.count_matches(" ") + 1 >= rules.answer_words) & (
            pl.col("needle").str.len_chars() >= rules.answer_characters
        )
        word = pl.element()
        mixed = (word.str.len_chars() >= rules.identifier) & word.str.contains(r"\p{L}") & word.str.contains(r"\p{N}")
        identifier = pl.col("needle").str.split(" ").list.eval(mixed).list.any()
        hidden = ~pl.col("own").str.contains(pl.format(" {} ", "needle"), literal=True)
        few = pl.col("task_id").n_unique().over("needle") <= rules.common
        kept = answers.filter((pl.col("needle") != "") & (long | identifier) & hidden & few)
        return pl.concat([texts, kept.select("e", kind=pl.lit("reference answer"), needle="needle")])


def _tasks(evaluation: pa.Table) -> pl.DataFrame:
    """The columns of `TASKS`, ordered by task and suite, with the place `e` and the digest `begins` of the state."""
    columns = [
        evaluation[field.name].cast(field.type)
        if field.name in evaluation.column_names
        else pa.nulls(evaluation.num_rows, field.type)
        for field in TASKS
    ]
    with warehouse.connect() as connection:
        connection.register("given", pa.table(columns, schema=TASKS))
        return connection.sql(
            f"""
            SELECT (row_number() OVER () - 1)::UINTEGER AS e, * FROM (
                SELECT coalesce(suite, '') AS suite, task_id, task_group, coalesce(text, '') AS text,
                    coalesce(answers, []) AS answers,
                    CASE WHEN state <> '' THEN {_STATE.format("state")} END AS begins
                FROM given ORDER BY task_id, suite, text, begins
            )
            """
        ).pl()


def _found(rows: pl.DataFrame, kind: str, key: str = "row", similarity: float | None = None) -> pl.DataFrame:
    """Rows with key and e as findings of a kind; a column `similarity` stands where there is one."""
    value = pl.col("similarity") if "similarity" in rows.columns else pl.lit(similarity, pl.Float64)
    return rows.select(
        pl.col(key).cast(pl.UInt32),
        pl.col("e").cast(pl.UInt32),
        pl.lit(kind).alias("kind"),
        value.alias("similarity"),
        pl.lit(None, pl.String).alias("excerpt"),
    )
