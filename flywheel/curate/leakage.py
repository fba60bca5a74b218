"""Leakage: training rows that give away what a policy will be evaluated on."""

from __future__ import annotations

import pyarrow as pa

from flywheel import warehouse
from flywheel.curate.fingerprint import WORDS, similar, texts
from flywheel.curate.spec import NearDuplicates

# Prompts are short, and a held-out template may share all but its frame with one that is trained on. So a text is
# nearly the same if a word was put before or after it (in a dozen words or more) or changed within it (in sixty).
NEAR = NearDuplicates(threshold=0.9, shingle=3)

LEAKS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("task_id", pa.string()),
        ("evaluation_task_id", pa.string()),
        ("kind", pa.string()),
        ("similarity", pa.float64()),
    ]
)


def audit(training: pa.Table, evaluation: pa.Table, near: NearDuplicates = NEAR) -> pa.Table:
    """The training rows that leak, as rows of `LEAKS`: none where all is well.

    `training` has id, task_id, task_group and steps (as corpus rows do). `evaluation` has task_id, task_group
    and text: what an evaluation shows the policy (a task's prompt, or the whole episode as `fingerprint.texts`
    gives it). Texts are compared with the first thing a training row's user says and with its whole episode.

    `kind` is `task` (the same task), `group` (another task of the same group), `exact` (the same words) or
    `near` (nearly the same words, with their Jaccard similarity); each training row is named once for each
    kind, with the most similar evaluation task, then the first by id. Ordered by trajectory_id, then kind.
    """
    rows = texts(training)
    with warehouse.connect() as connection:
        connection.register("training", training.select(["id", "task_id", "task_group"]))
        connection.register("evaluation", evaluation.select(["task_id", "task_group", "text"]))
        connection.register("texts", rows)
        normal = f"array_to_string({WORDS.format(text='text')}, ' ')"
        connection.sql(
            f"""
            CREATE TABLE said AS
            SELECT id, {normal} AS text FROM (
                SELECT id, prompt AS text FROM texts UNION ALL SELECT id, text FROM texts
            );
            CREATE TABLE shown AS SELECT task_id, {normal} AS text FROM evaluation;
            """
        )
        distinct = "SELECT DISTINCT text AS key, '' AS scope, text FROM {} WHERE text <> ''"
        pairs = similar(
            connection.sql(distinct.format("said")).to_arrow_table(),
            connection.sql(distinct.format("shown")).to_arrow_table(),
            near,
        )
        connection.register("pairs", pairs)
        return (
            connection.sql(
                """
                WITH found AS (
                    SELECT t.id, e.task_id AS evaluation_task_id, 'task' AS kind, NULL::DOUBLE AS similarity
                    FROM training AS t JOIN evaluation AS e USING (task_id)
                    UNION ALL
                    SELECT t.id, min(e.task_id), 'group', NULL
                    FROM training AS t JOIN evaluation AS e USING (task_group)
                    WHERE t.task_id <> e.task_id GROUP BY t.id
                    UNION ALL
                    SELECT said.id, shown.task_id, 'exact', 1.0 FROM said JOIN shown USING (text) WHERE text <> ''
                    UNION ALL
                    SELECT said.id, shown.task_id, 'near', pairs.similarity
                    FROM pairs JOIN said ON said.text = pairs.left JOIN shown ON shown.text = pairs.right
                    WHERE pairs.left <> pairs.right
                )
                SELECT id AS trajectory_id, t.task_id, evaluation_task_id, kind, similarity
                FROM found JOIN training AS t USING (id)
                QUALIFY row_number() OVER (PARTITION BY id, kind ORDER BY similarity DESC, evaluation_task_id) = 1
                ORDER BY trajectory_id, kind
                """
            )
            .to_arrow_table()
            .cast(LEAKS)
        )
