"""No command shows, counts, joins, searches, exports or changes what is another workspace's: each is tried."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from flywheel.capture import access, audit
from flywheel.capture.access import ALL, Denied, Role
from flywheel.cli import app
from flywheel.settings import Home
from flywheel_tests.access import MINE, OTHER, REASONS, ROWS, WORDS, Kind, Tokens, two

cli = CliRunner()

# A word of the workspace that is asked about stands for {w}, its name for {ws}.
W = "{w}-corpus"

# Every command that touches a workspace: the role that it needs, and a call about one workspace.
CALLS: dict[str, tuple[Role, list[str]]] = {
    "workspace create": ("admin", ["{ws}"]),
    "ingest": ("capture", ["{file}", "-w", "{ws}"]),
    "outcome": ("capture", ["{w}-1", "reopened", "1", "-w", "{ws}"]),
    "settle": ("capture", ["-w", "{ws}"]),
    "run": ("capture", ["-w", "{ws}", "--policy", "reference", "--env", "desk", "--tasks", "1"]),
    "redaction show": ("read", ["{ws}"]),
    "redaction set": ("admin", ["{ws}", "-"]),
    "redaction test": ("read", ["{ws}", "some text"]),
    "outcomes import": ("capture", ["{file}", "-w", "{ws}"]),
    "github link": ("admin", ["-w", "{ws}"]),
    "github link-pr": ("capture", ["octo/shop#12", "{w}-1", "-w", "{ws}"]),
    "github links": ("read", ["-w", "{ws}"]),
    "outcomes show": ("read", ["{ws}"]),
    "outcomes explain": ("read", ["{w}-1", "--workspace", "{ws}"]),
    "outcomes lag": ("read", ["--workspace", "{ws}"]),
    "snapshot": ("admin", ["{ws}", "--to", "{w}-other"]),
    "corpus log": ("read", [W]),
    "corpus show": ("read", [f"{W}@v1"]),
    "corpus why": ("read", ["{w}-1", W]),
    "corpus diff": ("read", [f"{W}@v1", f"{W}@v1"]),
    "corpus compare": ("read", [f"{W}@v1", f"{W}@v1"]),
    "corpus branch": ("admin", [W, "strict"]),
    "corpus tag": ("admin", [W, "label"]),
    "corpus merge": ("admin", [W, "main"]),
    "corpus verify": ("read", [f"{W}@v1"]),
    "corpus rebuild": ("admin", [f"{W}@v1", "--quick"]),
    "corpus audit": ("read", [f"{W}@v1"]),
    "corpus graduate": ("admin", [f"{W}@v1", "--by", "Ada", "--because", "it is fine"]),
    "forget": ("admin", ["--trajectory", "{w}-1", "-w", "{ws}", "--yes"]),
    "search": ("read", ["{w}", "-w", "{ws}", "--mode", "text"]),
    "stream": ("export", [f"{W}@v1"]),
    "export": ("export", ["trl-sft", f"{W}@v1", "--to", "{folder}"]),
    "tokenize": ("read", [f"{W}@v1", "--tokenizer", "nowhere"]),
    "train sft": ("admin", [f"{W}@v1"]),
    "train dpo": ("admin", ["sft-{w}-trees-gates", "--base", "sft-{w}"]),
    "rollout": ("admin", ["sft-{w}"]),
    "pairs": ("admin", ["sft-{w}-trees"]),
    "evaluate": ("admin", ["sft-{w}", "--suite", "none", "--offline", f"{W}@v1"]),
    "report": ("read", ["report-{w}"]),
    "gate": ("read", ["report-{w}"]),
    "demo": ("admin", []),
    "ui": ("admin", []),
    "token create": ("admin", ["-w", "{ws}", "--role", "read", "--name", "more"]),
    "token list": ("admin", ["-w", "{ws}"]),
    "token revoke": ("admin", ["0123", "-w", "{ws}"]),
    "audit": ("admin", ["-w", "{ws}"]),
}
# Further ways to call some of them, for which another role may be needed.
MORE: list[tuple[str, Role, list[str]]] = [
    ("corpus branch", "read", [W]),
    ("corpus tag", "read", [W]),
    ("corpus compare", "admin", [f"{W}@v1", f"{W}@v1", "--train"]),
    ("snapshot", "admin", ["{ws}", "--to", W]),
    ("search", "read", ["{w}", "--in", f"{W}@v1", "--mode", "text"]),
    ("outcomes show", "read", ["{ws}", "--trajectory", "{w}-1", "--json"]),
    ("gate", "admin", ["report-{w}", "--release"]),
    ("evaluate", "admin", ["sft-{w}"]),
    ("train sft", "admin", [f"{W}@v1", "--base", "sft-{w}"]),
    ("export", "export", ["steps", "--workspace", "{ws}", "--to", "{folder}"]),
    ("export", "export", ["hermes", "--workspace", "{ws}", "--sql", "SELECT id FROM trajectories", "--to", "{folder}"]),
    ("export", "export", ["trl-dpo", "--pairs", "sft-{w}-trees-gates", "--to", "{folder}"]),
    ("export", "export", ["step-records", "--trees", "sft-{w}-trees", "--to", "{folder}"]),
]
ALL_CALLS = [*((command, role, arguments) for command, (role, arguments) in CALLS.items()), *MORE]
# Those that show of many workspaces what one may see, or need all of them.
OVERALL = {"workspace list", "corpus list", "query", "history", "champion", "rollback", "corpus gc"}
# Those that touch none: the server asks each request for its token itself.
FREE = {"environments list", "environments prove", "environments show-task", "formats", "serve", "ship"}
# They go on for long, once they may.
LONG = {"train sft", "train dpo", "tokenize", "rollout", "pairs", "evaluate", "demo", "ui", "gate"}


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name))


def test_every_command_is_tried():
    there = set(leaves(typer.main.get_command(app)))
    assert not there - {*CALLS, *OVERALL, *FREE}, "say above which role they need, and how they are called"
    assert not {*CALLS, *OVERALL, *FREE} - there, "they are no more"


@pytest.fixture(scope="module", autouse=True)
def built() -> Iterator[None]:
    """The command line is built once: to build it takes longer than to be refused."""
    command = typer.main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", lambda _: command)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Tokens]:
    home = two(Home(tmp_path_factory.mktemp("two") / "data"))
    # The wheel's own workspace is the other one.
    (home.root / "wheel.toml").write_text(f'workspace = "{OTHER}"\n')
    return home, Tokens(home)


def call(home: Home, token: str | None, *arguments: str) -> tuple[Any, str]:
    """What a command ended with, and all that it said."""
    environment = {"FLYWHEEL_HOME": str(home.root), "FLYWHEEL_TOKEN": token or ""}
    result = cli.invoke(app, list(arguments), env=environment)
    return result, f"{result.output}{result.exception or ''}"


def told(command: str, workspace: str, tmp_path: Path, arguments: list[str] | None = None) -> list[str]:
    """A command's words and arguments about a workspace."""
    file = tmp_path / "chats.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]}\n')
    places = {"w": WORDS[workspace], "ws": workspace, "file": str(file), "folder": str(tmp_path / "out")}
    return [*command.split(), *(argument.format(**places) for argument in arguments or CALLS[command][1])]


def state(home: Home) -> dict[str, bytes]:
    """All files of a data folder but the audit log."""
    paths = [path for path in home.root.rglob("*") if path.is_file() and home.audit not in path.parents]
    return {str(path): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_command_does_anything_with_a_token_that_does_not_do(kind: Kind, place, tmp_path):
    home, tokens = place
    calls = [(command, tokens.bad(kind, OTHER, role), arguments) for command, role, arguments in ALL_CALLS]
    before, asked = state(home), len(list(audit.events(home)))
    for command, token, given in calls:
        arguments = told(command, OTHER, tmp_path, given)
        result, said = call(home, token, *arguments)
        assert isinstance(result.exception, Denied), f"{command}: {said}"
        assert result.exception.reason == REASONS[kind], f"{command}: {said}"
        for argument in sorted(arguments, key=len, reverse=True):
            said = said.replace(argument, "").replace(argument.partition("@")[0], "")
        assert WORDS[OTHER] not in said, f"{command}: {said}"
    assert state(home) == before
    events = list(audit.events(home))[asked:]
    assert {f"flywheel {command}" for command in CALLS} == {event.action for event in events}
    assert {(event.allowed, event.reason) for event in events} == {(False, REASONS[kind])}


@pytest.mark.parametrize("command", sorted(set(CALLS) - LONG))
def test_a_command_needs_no_more_than_its_role(command: str, place, tmp_path):
    home = Home(tmp_path / "data")
    shutil.copytree(place[0].root, home.root)
    for _, role, arguments in [given for given in ALL_CALLS if given[0] == command and "--train" not in given[2]]:
        needs(home, role, command, told(command, OTHER, tmp_path, arguments))


def needs(home: Home, role: Role, command: str, arguments: list[str]) -> None:
    result, said = call(home, Tokens(home).of(OTHER, role), *arguments)
    assert not isinstance(result.exception, Denied), said
    last = list(audit.events(home))[-1]
    assert (last.workspace, last.action, last.allowed) == (OTHER, f"flywheel {command}", True)
    assert last.who.startswith("good (")


VIEWS = (
    *("trajectories", "steps", "tool_calls", "outcomes", "joined", "quarantine", "versions", "decisions"),
    *("corpus_rows", "clusters", "trees", "tree_nodes", "pairs", "policies", "reports", "cycle"),
)
GLIMPSES = [
    *(["query", f"FROM {view}", "--json"] for view in VIEWS),
    ["query", "SELECT workspace, count(*) FROM trajectories JOIN outcomes USING (workspace) GROUP BY ALL", "--json"],
    ["query", "SELECT * FROM duckdb_views()", "--json"],
    ["query", "SELECT * FROM duckdb_settings()", "--json"],
    ["query", "EXPLAIN FROM trajectories"],
    ["workspace", "list", "--json"],
    ["corpus", "list", "--json"],
    ["corpus", "list"],
    ["history", "--json"],
    ["token", "list", "--json"],
    ["audit", "--json"],
    ["search", "refund address invoice", "--json"],
    ["search", "refund", "--mode", "text", "--steps"],
    ["corpus", "why", f"{WORDS[MINE]}-1", "--json"],
    ["outcomes", "explain", f"{WORDS[MINE]}-1", "--json"],
]


@pytest.mark.parametrize("arguments", GLIMPSES, ids=" ".join)
def test_what_shows_of_many_workspaces_shows_of_ones_own(arguments: list[str], place):
    home, tokens = place
    result, said = call(home, tokens.of(MINE, "admin"), *arguments)
    assert not result.exception, said
    for hidden in (WORDS[OTHER], OTHER):
        assert hidden not in said, said
    if arguments[0] == "query" and arguments[1].startswith("FROM") and arguments[1] != "FROM cycle":
        assert json.loads(result.stdout) or "cycle" in arguments[1] or "clusters" in arguments[1], "it hides all"


@pytest.mark.parametrize("who", ["nobody", "the other's admin", "mine"])
def test_rows_are_those_of_the_workspaces_that_one_may_read(who: str, place):
    home, tokens = place
    token = {"nobody": None, "the other's admin": tokens.of(OTHER, "admin"), "mine": tokens.of(MINE, "read")}[who]
    result, said = call(home, token, "query", "SELECT workspace, count(*) AS n FROM trajectories GROUP BY 1", "--json")
    if token is None:
        assert isinstance(result.exception, Denied), said
    else:
        name = MINE if who == "mine" else OTHER
        # One was ingested, beside those that were written.
        assert json.loads(result.stdout) == [{"workspace": name, "n": ROWS[name] + 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_parquet('{root}/captures/workspace=south/*/*.parquet')",
        "FROM read_parquet('{root}/captures/*/*/*.parquet')",
        "FROM read_parquet('{root}/captures/workspace=north/../workspace=south/*/*.parquet')",
        "FROM '{root}/policies/sft-zephyr/lineage.json'",
        "FROM read_text('{root}/corpora/zephyr-corpus/versions/v1.json')",
        "FROM read_csv('{root}/registry/history.jsonl')",
        "FROM read_text('{root}/audit/*')",
        "FROM read_text('{root}/workspaces/south/tokens/*')",
        "FROM glob('{root}/**')",
        "FROM glob('{root}/captures/*')",
        "SELECT count(*) FROM read_blob('{root}/derived/south/**')",
        "FROM read_parquet('{root}/trees/sft-zephyr-trees/*.parquet')",
    ],
)
def test_files_of_others_cannot_be_read_by_a_query(sql: str, place):
    home, tokens = place
    result, said = call(home, tokens.of(MINE, "admin"), "query", sql.format(root=home.root))
    assert result.exception, said
    assert WORDS[OTHER] not in said.replace("sft-zephyr", "").replace("zephyr-corpus", "")
    # Their owner can.
    if "captures/workspace=south/*" in sql:
        assert not call(home, tokens.of(OTHER, "read"), "query", sql.format(root=home.root))[0].exception


@pytest.mark.parametrize("arguments", [["champion"], ["rollback"], ["corpus", "gc"], ["forget", "--subject", "aurora"]])
def test_what_is_of_the_whole_data_folder_needs_all_of_it(arguments: list[str], place):
    home, tokens = place
    result, said = call(home, tokens.of(MINE, "admin"), *arguments)
    assert isinstance(result.exception, Denied), said
    assert (result.exception.reason, WORDS[OTHER] in said) == ("workspace", False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["snapshot", MINE, "--to", "zephyr-corpus"],
        ["train", "sft", "aurora-corpus@v1", "--base", "sft-zephyr"],
        ["train", "dpo", "sft-aurora-trees-gates", "sft-zephyr-trees-gates", "--base", "sft-aurora"],
        ["evaluate", "sft-aurora", "sft-zephyr"],
        ["evaluate", "sft-aurora", "--suite", "none", "--offline", "zephyr-corpus@v1"],
        ["corpus", "compare", "aurora-corpus@v1", "zephyr-corpus@v1"],
        ["gate", "report-aurora", "--release"],
        ["search", "refund", "-w", MINE, "-w", OTHER],
        ["query", "FROM trajectories JOIN read_parquet('captures/workspace=south/*/*.parquet') USING (task_type)"],
    ],
    ids=" ".join,
)
def test_nothing_is_mixed_with_what_is_anothers(arguments: list[str], place):
    home, tokens = place
    before = state(home)
    result, said = call(home, tokens.of(MINE, "admin"), *arguments)
    assert result.exception, said
    assert isinstance(result.exception, Denied) or "Permission Error" in said, said
    after = state(home)
    assert {path for path in after if after[path] != before.get(path)} <= {str(home.catalog)}


@pytest.mark.parametrize("name", ["nowhere", OTHER])
def test_what_is_not_there_is_refused_as_what_is_hidden(name: str, place):
    home, tokens = place
    words = WORDS.get(name, "nothing")
    for arguments in (
        ["outcomes", "show", name],
        ["settle", "-w", name],
        ["corpus", "log", f"{words}-corpus"],
        ["report", f"report-{words}"],
        ["rollout", f"sft-{words}"],
        ["pairs", f"sft-{words}-trees"],
    ):
        for token in (None, tokens.of(MINE, "admin")):
            result, said = call(home, token, *arguments)
            assert isinstance(result.exception, Denied), said
            assert result.exception.reason == ("workspace" if token else "missing")
            expected = call(home, token, *[a.replace(name, "x").replace(words, "x") for a in arguments])[1]
            assert said.replace(name, "x").replace(words, "x") == expected


def test_a_token_for_all_workspaces_sees_them_all_and_guards_those_to_come(place, tmp_path):
    home = Home(tmp_path / "data")
    shutil.copytree(place[0].root, home.root)
    tokens = place[1]
    result, said = call(home, tokens.of(MINE, "admin"), "token", "create", "-w", ALL, "--role", "admin", "--name", "x")
    assert isinstance(result.exception, Denied), said
    every, _ = access.issue(home, ALL, ["admin"], name="every")
    rows = json.loads(call(home, every, "query", "SELECT count(*) AS n FROM trajectories", "--json")[0].stdout)
    assert rows == [{"n": sum(ROWS.values()) + len(ROWS)}]
    assert isinstance(call(home, None, "workspace", "create", "east")[0].exception, Denied)
    assert not call(home, every, "workspace", "create", "east")[0].exception
    assert isinstance(call(home, None, "outcomes", "show", "east")[0].exception, Denied)


def test_a_workspace_that_nobody_guards_is_used_as_ever(place, tmp_path, home):
    home.root.mkdir()
    assert not call(home, None, "workspace", "create", "east")[0].exception
    result, said = call(home, None, *told("ingest", MINE, tmp_path)[:-1], "east")
    assert not result.exception, said
    assert "1" in call(home, "fw_wrong", "query", "SELECT count(*) FROM trajectories")[1]
    assert {event.who for event in audit.events(home)} == {audit.user()}


def test_files_of_the_data_folder_are_read_by_those_who_may(place):
    home, tokens = place
    theirs = next((home.captures / f"workspace={OTHER}").rglob("*.parquet"))
    for arguments in (["ingest", str(theirs), "-w", MINE], ["train", "sft", str(theirs)]):
        result, said = call(home, tokens.of(MINE, "admin"), *arguments)
        assert isinstance(result.exception, Denied), said
