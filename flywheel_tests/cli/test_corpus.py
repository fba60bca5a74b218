"""`flywheel snapshot`, `corpus`, `query` and `stream` as a person and as a script use them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from flywheel.cli import app
from flywheel.corpus import store
from flywheel.curate import derived, prepared
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import MONDAY, TUESDAY, trajectory, verdict, write
from flywheel_tests.views.conftest import MARKED, byte_level

cli = CliRunner()

POLICY = """
[[signals]]
name = "checker"

[[signals]]
name = "reopened"
required = false
silence = 1.0
"""


def run(*arguments: str, code: int = 0) -> str:
    result = cli.invoke(app, list(arguments))
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def said(*arguments: str, code: int = 0):
    return json.loads(run(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twelve episodes; 3 and 7 failed, and on Tuesday the first row of v1 turns out to be wrong."""
    folder = tmp_path_factory.mktemp("made")
    home = Home(folder / "data")
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n not in (3, 7))) for n in range(12)])
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    demand = ["--filter", "reward > 0", "--policy", str(policy), "--as-of", MONDAY.isoformat()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYWHEEL_HOME", str(home.root))
        assert said("snapshot", "support", "--to", "desk", *demand)["created"]
        late = int(store.rows(home, "desk", 1)["id"][0].as_py()[1:])
        write(home, outcomes=[verdict(late, 0.0, "reopened", TUESDAY)])
        assert said("snapshot", "support", "--to", "desk", "--as-of", TUESDAY.isoformat())["version"] == 2
    return home


@pytest.fixture
def support(made, home, monkeypatch):
    """A copy of it, to be changed."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    shutil.copytree(made.root, home.root)
    return home


def test_the_same_demand_is_the_same_version(support):
    again = said("snapshot", "support", "--to", "desk", "--as-of", TUESDAY.isoformat())
    assert (again["version"], again["created"]) == (2, False)


def test_show_has_what_scripts_rely_on(support):
    shown = said("corpus", "show", "desk@v1")
    assert {"version", "digest", "as_of", "rows", "candidates", "reasons", "parents", "recipe"} <= set(shown)
    assert (shown["version"], shown["parents"], shown["candidates"]) == (1, [], 12)
    assert shown["recipe"]["filter"] == "reward > 0"
    # The second version took filter and reward policy over from the first.
    newest = said("corpus", "show", "desk")
    assert (newest["version"], newest["parents"], newest["recipe_hash"]) == (2, [1], shown["recipe_hash"])
    assert [m["version"] for m in said("corpus", "log", "desk")] == [2, 1]
    assert [m["name"] for m in said("corpus", "list")] == ["desk"]


def test_diff_and_why_name_the_late_outcome(support):
    told = said("corpus", "diff", "desk@v1", "desk@v2")
    assert told["whys"] == {"late outcome": 1}
    [row] = told["rows"]
    assert [o["signal"] for o in row["outcomes"]] == ["reopened"]
    why = said("corpus", "why", row["trajectory_id"])
    assert [d["version"] for d in why["decisions"]] == [1, 2]
    assert why["source"] == "desk.jsonl"
    assert len(said("corpus", "why", row["trajectory_id"], "desk@v1")["decisions"]) == 1


def test_verify_and_rebuild_end_with_1_where_something_is_wrong(support):
    assert said("corpus", "verify", "desk@v1")["whole"]
    assert said("corpus", "rebuild", "desk@v1")["same"]
    for data in derived.folder(support, "support", prepared.ROWS).glob("data/*.lance"):
        data.write_bytes(b"damaged")
    assert not said("corpus", "verify", "desk@v1", code=1)["whole"]
    assert said("corpus", "rebuild", "desk@v1")["restored"] == ["content"]
    write(support, outcomes=[verdict(5, 0.0, "reopened", MONDAY)])
    assert [d["trajectory_id"] for d in said("corpus", "rebuild", "desk@v1", code=1)["differences"]] == ["t005"]


def test_a_branch_is_begun_listed_merged_and_given_up(support):
    made = said("corpus", "branch", "desk", "short", "--from", "v1", "--filter", "n_steps < 3")
    assert (made["version"], made["branch"], made["parents"]) == (3, "short", [1])
    assert [(b["branch"], b["version"]) for b in said("corpus", "branch", "desk")] == [("main", 2), ("short", 3)]
    assert [m["version"] for m in said("corpus", "log", "desk", "--branch", "short")] == [3]
    assert said("snapshot", "support", "--to", "desk", "--branch", "short")["recipe"]["filter"] == "n_steps < 3"
    merged = said("corpus", "merge", "desk", "short")
    assert (merged["branch"], merged["parents"], merged["recipe"]["filter"]) == ("main", [2, 4], "n_steps < 3")
    assert said("corpus", "branch", "desk", "short", "--delete")["removed"] == [3, 4]
    removed = said("corpus", "gc", "--older-than", "0")["removed"]
    assert removed == ["corpora/desk/decisions/v3.parquet", "corpora/desk/decisions/v4.parquet"]


def test_a_tag_names_a_version(support):
    assert said("corpus", "tag", "desk", "baseline", "v1")["version"] == 1
    assert said("corpus", "show", "desk@baseline")["version"] == 1
    assert [t["name"] for t in said("corpus", "tag", "desk")] == ["baseline"]
    assert said("corpus", "tag", "desk", "baseline", "v2", "--force")["version"] == 2
    assert said("corpus", "tag", "desk", "baseline", "--delete")["removed"]


def test_query_gives_a_list_of_objects(support):
    counts = said("query", "SELECT version, count(*) AS candidates FROM decisions GROUP BY ALL ORDER BY ALL")
    assert counts == [{"version": 1, "candidates": 12}, {"version": 2, "candidates": 12}]
    assert said("query", "SELECT sum(n_steps) AS steps FROM trajectories") == [{"steps": 60}]
    assert support.catalog.exists()
    with pytest.raises(FlywheelError, match=r"(?s)nope.*decisions: corpus, version"):
        run("query", "SELECT nope FROM decisions")


def test_stream_prints_rows_with_what_is_trained(support):
    rows = said("stream", "desk@v1", "--limit", "2")
    assert len(rows) == 2
    for row in rows:
        number = row["trajectory_id"][1:].lstrip("0") or "0"
        trained = [span["text"] for span in row["spans"] if span["trained"]]
        assert trained[0].startswith("<think>\nLook first.\n</think>")
        assert trained[1].endswith(f" {number} is done.<|im_end|>")
        assert {span["role"] for span in row["spans"] if span["trained"]} == {"assistant"}
        assert (row["reward"], row["split"]) == (1.0, "train")


def test_stream_with_a_tokenizer_decodes_tokens_and_mask(support, tmp_path):
    byte_level(MARKED).save_pretrained(tmp_path / "tokenizer")
    plain = said("stream", "desk@v1", "--limit", "4")
    decoded = said("stream", "desk@v1", "--limit", "4", "--tokenizer", str(tmp_path / "tokenizer"))
    for one, other in zip(plain, decoded, strict=True):
        assert one["trajectory_id"] == other["trajectory_id"]
        assert [s["text"] for s in one["spans"] if s["trained"]] == [s["text"] for s in other["spans"] if s["trained"]]
        assert 0 < other["trained_tokens"] < other["tokens"]
    with pytest.raises(FlywheelError, match="there is no tokenizer"):
        run("stream", "desk", "--tokenizer", str(tmp_path / "nowhere"))


def test_people_get_tables(support):
    assert "late outcome" in run("corpus", "diff", "desk@v1", "desk@v2")
    assert "reward > 0" in run("corpus", "log", "desk")
    assert "recipe: filter" in run("corpus", "show", "desk@v2")
    assert "reopened" in run("corpus", "why", said("corpus", "diff", "desk@1", "desk@2")["rows"][0]["trajectory_id"])
    assert "desk.jsonl" in run("query", "FROM trajectories SELECT source LIMIT 1")
    assert "Look first." in run("stream", "desk", "--limit", "1")


def test_wrong_usage_ends_with_2(support):
    run("snapshot", "support", code=2)
    run("stream", code=2)
    with pytest.raises(FlywheelError, match="no branch or tag 'one'"):
        run("corpus", "diff", "desk@one", "desk@v2")
