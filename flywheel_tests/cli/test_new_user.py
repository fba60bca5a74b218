"""What a new user gets wrong: each mistake ends with 1 (2 for wrong usage), a message that leads on, and no output."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel.cli import app, main
from flywheel.settings import Home

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "reward": 1}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flywheel(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line as a process has it: exit code, standard output, standard error in one line."""
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flywheel", *words])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return code, out, " ".join(err.split())

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a workspace `desk`, and corpus `desk@v1` of one conversation."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "chats.jsonl").write_text(json.dumps(CHAT) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYWHEEL_HOME", str(folder / "data"))
        patch.chdir(folder)
        for words in (
            "workspace create desk",
            "ingest chats.jsonl -w desk",
            "snapshot desk --filter reward>0 --to desk",
        ):
            done = CliRunner().invoke(app, words.split())
            assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def desk(made: Path, tmp_path: Path) -> Path:
    """A copy of `made`, beside files of every kind of trouble."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "binary.json").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "worse.jsonl").write_text('{"messages": 3}\nnot json\n')
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ingest none.json -w desk", "none.json does not exist"),
        ("ingest folder -w desk", "folder holds no file that ends in .json, .json.gz, .jsonl, .jsonl.gz, .ndjson"),
        ("ingest empty.jsonl -w desk", "empty.jsonl is empty"),
        ("ingest binary.json -w desk", "of no known format; the formats are: "),
        ("ingest chats.jsonl -w desk --format csv", "there is no format 'csv'; the formats are"),
        ("ingest chats.jsonl -w desc", "create it with: flywheel workspace create desc"),
        ("snapshot nowhere --to x", "create it with: flywheel workspace create nowhere"),
        ("snapshot desk --to a/b", "write letters, digits, '-' and '_' only"),
        ("snapshot desk --to x --filter rewrd>0", "there is no column rewrd. Write a condition on: reward"),
        ("snapshot desk --to x --filter reward>", "syntax error"),
        ("snapshot desk --to x --filter reward", "not true or false"),
        ("corpus show nope", "make one with: flywheel snapshot WORKSPACE --to nope"),
        ("corpus show desk@v9", "corpus 'desk' has no v9"),
        ("corpus show desk@banana", "has no branch or tag 'banana' (there are: main)"),
        ("corpus why zzz", 'list them with: flywheel query "SELECT trajectory_id FROM decisions"'),
        ("corpus diff desk@v1 desk@v2", "corpus 'desk' has no v2"),
        ("stream desk@v1 --split test", "it is train or heldout"),
        ("query SELEC", "syntax error"),
        ("query FROM\tnowhere", "There are these views: clusters: corpus, version"),
        ("query DROP\tVIEW\tsteps", "a query reads"),
        ("query SELECT\t1;SELECT\t2", "write one statement; this is 2"),
        ("query FROM\tread_csv('/etc/passwd')", "Cannot access file"),
        ("outcome zzz reward 1 -w desk", "flywheel settle --workspace desk"),
        ("outcomes show desk --trajectory zzz", "no trajectory 'zzz' had arrived"),
        ("rollout nobody", "a Hugging Face model is written OWNER/NAME"),
        ("evaluate nobody --suite none --offline desk@v1", "there is no policy 'nobody'"),
        ("report latest", "run `flywheel demo`"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(flywheel: Run, desk: Path, words: str, message: str) -> None:
    code, out, err = flywheel(*(word.replace("\t", " ") for word in words.split(" ")), "--json")
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("words", ["workspace create desk", "serve"])
def test_a_data_folder_that_is_none_is_told(
    flywheel: Run, desk: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    for folder in ("chats.jsonl", "chats.jsonl/below", "/proc/none"):
        monkeypatch.setenv("FLYWHEEL_HOME", folder)
        code, out, err = flywheel(*words.split())
        assert (code, out) == (1, "")
        told = "".join(err.split())  # a long path is broken where the terminal ends
        assert f"thedatafolder{Path(folder).resolve()}cannotbeused" in told
        assert "FLYWHEEL_HOMEnamesanother" in told


@pytest.mark.parametrize(
    "words",
    [
        "nonsense",
        "snapshot desk",
        "snapshot desk --to x --as-of yesterday",
        "corpus diff desk@v1",
        "stream desk@v1 --limit 0",
        "ingest chats.jsonl",
        "evaluate nobody --suite none",
    ],
)
def test_wrong_usage_is_two(flywheel: Run, words: str) -> None:
    code, out, err = flywheel(*words.split())
    assert (code, out) == (2, "")
    assert "Usage: " in err
    assert "-h' for help" in err


def test_a_file_of_which_nothing_can_be_read_is_no_success(flywheel: Run, desk: Path) -> None:
    code, out, err = flywheel("ingest", "worse.jsonl", "-w", "desk", "--json")
    assert (code, json.loads(out)["total"]["quarantined"]) == (1, 2)
    assert "none of the 2 records could be read" in err
    assert 'flywheel query "SELECT source, line, error FROM quarantine"' in err
    told = json.loads(flywheel("query", "SELECT line FROM quarantine ORDER BY line", "--json")[1])
    assert told == [{"line": 1}, {"line": 2}]


def test_a_moment_before_everything_gives_an_empty_version_and_says_so(flywheel: Run, desk: Path) -> None:
    code, out, err = flywheel("snapshot", "desk", "--to", "early", "--as-of", "2020-01-01", "--json")
    assert (code, json.loads(out)["candidates"]) == (0, 0)
    assert "nothing had arrived in desk by 2020-01-01" in err


@pytest.mark.parametrize(
    "words",
    [
        "workspace list",
        "ingest chats.jsonl -w desk",
        "settle -w desk",
        "outcomes show desk",
        "corpus list",
        "corpus log desk",
        "corpus show desk@v1",
        "corpus verify desk@v1",
        "stream desk@v1 --limit 2",
        "query SHOW\tTABLES",
        "history",
    ],
)
def test_with_json_there_is_one_document_and_without_it_something_to_read(
    flywheel: Run, desk: Path, words: str
) -> None:
    given = [word.replace("\t", " ") for word in words.split(" ")]
    code, out, _ = flywheel(*given, "--json")
    assert code == 0
    json.loads(out)
    code, out, err = flywheel(*given)
    assert code == 0
    assert (out + err).strip()
