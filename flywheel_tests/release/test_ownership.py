"""Whose a thing is follows from what it came of; what does not say so is nobody's to use."""

from pathlib import Path
from typing import Any

import pytest

from flywheel import artifacts
from flywheel.release import ownership
from flywheel.release.ownership import NOBODY, UNKNOWN
from flywheel.settings import Home


def version(home: Home, corpus: str, number: int, workspace: str) -> None:
    artifacts.write_json(home.corpora / corpus / "versions" / f"v{number}.json", {"recipe": {"workspace": workspace}})


def policy(home: Home, id: str, **lineage: Any) -> None:
    artifacts.write_json(home.policies / id / "lineage.json", {"base": {"model": "scratch"}, **lineage})


@pytest.fixture
def made(home: Home) -> Home:
    """Policies of two corpora, one on the other, with trees and pairs between them."""
    version(home, "north", 1, "a")
    version(home, "both", 1, "a")
    version(home, "both", 2, "b")
    policy(home, "sft-a", data={"corpus": "north", "version": 1})
    policy(home, "sft-ab", data={"corpus": "both", "version": 2})
    artifacts.write_json(home.trees / "sft-a-0c2f" / "stats.json", {"actor": "sft-a@12"})
    (home.trees / "sft-a-0c2f.successes.parquet").touch()
    pairs = home.pairs / "sft-a-0c2f-77aa" / "pairs.parquet"
    pairs.parent.mkdir(parents=True)
    pairs.touch()
    policy(home, "dpo", base={"policy": "sft-ab"}, pairs=[{"path": str(pairs)}])
    policy(home, "control", data={"trajectories": str(home.trees / "sft-a-0c2f.successes.parquet")})
    return home


def test_a_thing_is_of_all_workspaces_that_it_came_of(made):
    assert ownership.corpus(made, "north") == {"a"}
    assert ownership.corpus(made, "both") == {"a", "b"}
    assert ownership.policy(made, "sft-a") == {"a"}
    assert ownership.policy(made, "dpo") == {"a", "b"}
    assert ownership.policy(made, "control") == {"a"}
    assert ownership.trees(made, "sft-a-0c2f") == {"a"}
    assert ownership.pairs(made, "sft-a-0c2f-77aa") == {"a"}
    told = {"corpus": "north@v1", "entrants": [{"policy_id": ""}, {"policy_id": "dpo"}]}
    artifacts.write_json(made.reports / "r" / "report.json", told)
    assert ownership.report(made, "r") == {"a", "b"}


def test_what_does_not_say_what_it_came_of_is_nobodys_to_use(made):
    for owners in (ownership.corpus, ownership.policy, ownership.trees, ownership.pairs, ownership.report):
        assert owners(made, "nothing") == UNKNOWN
    policy(made, "gone", data={"corpus": "south", "version": 1})
    policy(made, "moved", base={"policy": "sft-a"}, pairs=[{"path": "/elsewhere/pairs/x/pairs.parquet"}])
    policy(made, "itself", base={"policy": "itself"})
    assert ownership.policy(made, "gone") == UNKNOWN
    assert ownership.policy(made, "moved") == {"a"} | UNKNOWN
    assert ownership.policy(made, "itself") == UNKNOWN
    (made.policies / "bare").mkdir()
    assert ownership.policy(made, "bare") == UNKNOWN
    version(made, "older", 1, "a")
    artifacts.write_json(made.corpora / "older" / "versions" / "v2.json", {"schema_version": 1})
    assert ownership.corpus(made, "older") == {"a"} | UNKNOWN
    (made.corpora / "older" / "versions" / "v2.json").write_text("torn")
    assert ownership.corpus(made, "older") == {"a"} | UNKNOWN


def test_models_and_files_from_elsewhere_are_free(made, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("Qwen/Qwen3-0.6B", str(tmp_path / "model")):
        assert ownership.policy(made, name) == NOBODY
        policy(made, "on", base={"model": name})
        assert ownership.policy(made, "on") == NOBODY


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("captures/workspace=a/day=2026-11-02/x.parquet", {"a"}),
        ("quarantine/workspace=b/day=2026-11-02/x.parquet", {"b"}),
        ("journals/a/x.jsonl", {"a"}),
        ("derived/b/rows.lance/x", {"b"}),
        ("corpora/both/decisions/v1.parquet", {"a", "b"}),
        ("policies/sft-a/model", {"a"}),
        ("trees/sft-a-0c2f.successes.parquet", {"a"}),
        ("pairs/sft-a-0c2f-77aa", {"a"}),
        ("registry/history.jsonl", UNKNOWN),
        ("captures", UNKNOWN),
        (".", UNKNOWN),
        ("..", UNKNOWN),
        ("captures/../workspaces/a/tokens/x.json", UNKNOWN),
        ("sample/airline.jsonl", NOBODY),
        ("chats.jsonl", NOBODY),
        ("../chats.jsonl", NOBODY),
    ],
)
def test_a_file_of_the_data_folder_is_of_what_it_is_a_part_of(path: str, owners: set[str], made):
    (made.root / "chats.jsonl").touch()
    assert ownership.file(made, Path(made.root / path)) == owners
    assert ownership.policy(made, str(made.root / "policies" / "sft-ab" / "model")) == {"a", "b"}
