"""Profiles: what one episode shows of itself, in a few columns: its length, its tools, and marks that give it away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from flywheel import warehouse
from flywheel.curate.derivation import Derivation
from flywheel.schema import canonical_json

MARK = pa.struct([("kind", pa.string()), ("excerpt", pa.string())])

PROFILE = pa.schema(
    [
        ("words", pa.int32()),
        ("calls", pa.int32()),
        ("errors", pa.int32()),
        ("tools_called", pa.list_(pa.string())),
        ("tools_offered", pa.bool_()),
        ("instructions", pa.string()),
        ("marks", pa.list_(MARK)),
    ]
)

# A verdict that was printed where the agent, and later a model in training, reads it. "score: 1" alone is no such
# thing: games and exams have scores; nor is "verification failed": identities and certificates are verified.
VERDICT = (
    r"(?i)\b(?:(?:\w+_)?rewards?[\"']?\s*(?:(?:=|:|is\b|of\b)\s*\[?(?:true|false|[01]?\.\d+|[01])|[01]?\.\d+)(?:\b|\])"
    r"|(?:checker|grader|judge|verifier|evaluator)[\"'\])]*\s*(?:output|result|verdict|status|score)?[\"']?"
    r"\s*(?:=|:|says|said|returned|gives|has|is)?\s*[\"']?"
    r"(?:pass(?:ed)?|fail(?:ed)?|true|false|correct|incorrect|success|accepted|rejected|[01](?:\.\d+)?)\b"
    r"|(?:evaluation|verification|grading|result|verdict)\s*[:=]\s*[\"']?(?:pass(?:ed)?|(?:in)?correct)\b"
    r"|is_correct[\"']?\s*[:=]\s*(?:true|false)\b)"
)
# The answer that a check compares with. "Expected output" is what any test prints, and what any user may write.
ANSWER = (
    r"(?i)\b(?:(?:expected|reference|gold(?:en)?|correct|right|hidden|oracle)[ _]"
    r"(?:answer|solution|label|actions?|patch)[\"']?\s*(?:=|:|-|is\b)"
    r"|answer[ _]key[\"']?\s*(?:=|:|is\b)|ground[ _-]truth[\"']?\s*(?:=|:|-|is\b))"
)
# Files that hold a check or its answer are nobody's to touch; tests may be read, and not be rewritten.
GRADER = (
    r"(?i)(?:^|[\s\"'/\\=(])(?:(?:checker\w*|(?:auto)?grad(?:er|ing)\w*|verif(?:y|ier)|judge\w*|rewards?|scor(?:er|ing|e)\w*"
    r"|expected\w*|hidden_tests?|gold(?:en)?\w*|oracle\w*|answers?|answer_key\w*|reference_solution\w*)"
    r"\.(?:py|sh|js|ts|json|jsonl|ya?ml|txt|csv|out|log)\b"
    r"|\.?(?:graders?|checkers?|verifiers?|hidden_tests?|answers|oracles?)/)"
    r"|\b(?:kill|pkill|killall)\b.*(?:grader|checker|verifier|judge)"
)
TESTS = (
    r"(?i)(?:^|[\s\"'/\\=(])(?:(?:__)?tests?(?:__)?/|test_\w+\.\w+|\w+_(?:test|spec)\.\w+|\w+\.(?:test|spec)\.[jt]sx?"
    r"|conftest\.py)"
)
WRITES = (
    r"(?i)^\S*(?:write|edit|create|delete|remove|move|rename|copy|append|replace|patch|insert|overwrite|update)\S* "
    r"|>|\b(?:tee|rm|mv|chmod|truncate|vim?|nano)\s|open\([^)]*,\s*\W*[wa]\b|\bsed\s+-i|\bcp\s|\bgit\s+(?:checkout|apply|restore)\s"
)
# Keys of metadata under which a log keeps the reference answer.
KEPT = r"(?i)\b(?:answers?|expected\w*|gold\w*|reference\w*|solution|ground_truth|evaluation_criteria)\b"

# What decides a profile beside the row: raised whenever the same row would give another one.
RECIPE = 1

# Characters on each side of what an excerpt shows, and of a reference answer that is long enough to be told by chance.
AROUND = 80
LONG, WORDS = 24, 4


def profile(trajectories: pa.Table) -> pa.Table:
    """One row of `PROFILE` for each row (steps, tools and metadata), in order; it depends on that row alone.

    `words` are those outside system messages, reasoning included. `tools_called` are distinct, in order of name.
    `instructions` is a digest of the system messages. `marks` say what a row should not show: `verdict` (a reward
    or a checker's word, printed), `answer` (a reference answer that is announced in an observation),
    `secret` (a reference answer kept in the metadata, read by the agent before it said so itself) and `tampering`
    (a call that touches a grader's file, or writes to tests).
    """
    with warehouse.connect() as connection:
        connection.register("given", trajectories.select(["steps", "tools", "metadata"]))
        connection.sql(
            f"""
            CREATE TABLE read AS
            WITH placed AS (SELECT row_number() OVER () AS place, * FROM given),
            told AS (
                SELECT place, tools, metadata, steps,
                    {_text("s.role = 'tool'")} AS observed, {_text("s.role = 'user'")} AS asked,
                    {_text("s.role = 'system'")} AS instructed,
                    {_text("s.role = 'assistant'", "concat_ws(' ', s.reasoning, s.content)")} AS answered,
                    list_transform(flatten(list_transform(steps, lambda s: coalesce(s.tool_calls, []))),
                        lambda c: concat(c.name, ' ', c.arguments)) AS calls,
                    list_sort(list_distinct(flatten(list_transform(steps, lambda s:
                        list_transform(coalesce(s.tool_calls, []), lambda c: c.name))))) AS tools_called,
                    len(list_filter(steps, lambda s: coalesce(s.is_error, false))) AS errors
                FROM placed
            )
            SELECT *, regexp_matches(observed, $verdict) OR regexp_matches(asked, $verdict)
                    OR regexp_matches(answered, $verdict) AS shows_verdict,
                regexp_matches(observed, $answer) AS shows_answer,
                list_filter(calls, lambda c: regexp_matches(c, $grader)
                    OR (regexp_matches(c, $tests) AND regexp_matches(c, $writes))) AS touched,
                regexp_matches(metadata, $secret) AS keeps_secret
            FROM told
            """,
            params={
                "verdict": VERDICT,
                "answer": ANSWER,
                "grader": GRADER,
                "tests": TESTS,
                "writes": WRITES,
                "secret": KEPT,
            },
        )
        around = f"(?s)(.{{0,{AROUND}}}{{}}.{{0,{AROUND}}})"
        connection.sql(
            """
            CREATE TABLE marks AS
            SELECT place, 'verdict' AS kind,
                regexp_extract(concat_ws(chr(10), observed, asked, answered), $verdict, 1) AS excerpt
            FROM read WHERE shows_verdict
            UNION ALL SELECT place, 'answer', regexp_extract(observed, $answer, 1) FROM read WHERE shows_answer
            UNION ALL SELECT place, 'tampering', touched[1][:200] FROM read WHERE len(touched) > 0
            """,
            params={"verdict": around.replace("{}", VERDICT), "answer": around.replace("{}", ANSWER)},
        )
        kept = connection.sql("SELECT place, metadata, steps FROM read WHERE keeps_secret ORDER BY place")
        connection.register("secrets", _secrets(kept.to_arrow_table()))
        return (
            connection.sql(
                """
                WITH every AS (SELECT * FROM marks UNION ALL SELECT * FROM secrets),
                marked AS (
                    SELECT place, list(struct_pack(kind, excerpt) ORDER BY kind) AS marks FROM every GROUP BY place
                )
                SELECT len(list_filter(string_split(concat_ws(' ', asked, answered, observed), ' '),
                        lambda word: word <> '')) AS words,
                    len(calls) AS calls, errors, tools_called, tools NOT IN ('', '[]') AS tools_offered,
                    md5(instructed) AS instructions, coalesce(m.marks, []) AS marks
                FROM read LEFT JOIN marked AS m USING (place) ORDER BY place
                """
            )
            .to_arrow_table()
            .cast(PROFILE)
        )


def _text(which: str, said: str = "s.content") -> str:
    said = f"list_transform(list_filter(steps, lambda s: {which}), lambda s: coalesce({said}, ''))"
    return f"array_to_string({said}, chr(10))"


def _secrets(rows: pa.Table) -> pa.Table:
    """Marks of rows whose metadata keep a reference answer: only those are gone through one by one."""
    found: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        told = next(_given_away(msgspec.json.decode(row["metadata"]), row["steps"]), None)
        if told:
            found.append({"place": row["place"], "kind": "secret", "excerpt": told})
    return pa.Table.from_pylist(
        found, schema=pa.schema([("place", pa.int64()), ("kind", pa.string()), ("excerpt", pa.string())])
    )


def _given_away(metadata: Any, steps: list[dict[str, Any]]) -> Iterator[str]:
    """The reference answers that stand in what the agent read before it wrote them itself."""
    answers = [text for text in _kept(metadata, False) if len(text) >= LONG and len(text.split()) >= WORDS]
    for answer in answers:
        for step in steps:
            said = step["content"] or ""
            if step["role"] == "assistant":
                calls = " ".join(call["arguments"] for call in step["tool_calls"] or ())
                if answer in said or answer in calls:
                    break
            elif (at := said.find(answer)) >= 0:
                yield said[max(0, at - AROUND) : at + len(answer) + AROUND]


def _kept(value: Any, secret: bool) -> Iterator[str]:
    """Texts in metadata that stand under a key of `KEPT`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _kept(inner, secret or re.search(KEPT, key) is not None)
    elif isinstance(value, list):
        for inner in value:
            yield from _kept(inner, secret)
    elif secret and isinstance(value, str):
        yield value


PROFILES = Derivation(
    name="profiles",
    recipe=canonical_json([RECIPE, VERDICT, ANSWER, GRADER, TESTS, WRITES, KEPT, AROUND, LONG, WORDS]),
    columns=("steps", "tools", "metadata"),
    schema=PROFILE,
    compute=profile,
)
