"""`flywheel forget` as a person and as a script use it."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from flywheel.capture.erasing.erasure import records
from flywheel.cli import app
from flywheel.corpus.snapshot import snapshot
from flywheel.schema import FlywheelError
from flywheel.train import inputs
from flywheel.wheel import forget
from flywheel_tests.corpus.conftest import SPEC, TUESDAY, trajectory, verdict, write
from flywheel_tests.corpus.traces import NAME, holding
from flywheel_tests.wheel.forgotten import fill

cli = CliRunner()


def run(*arguments: str, code: int = 0) -> str:
    result = cli.invoke(app, list(arguments))
    if isinstance(result.exception, FlywheelError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def said(*arguments: str):
    result = cli.invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def filled(home, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    fill(home)
    return home


def test_it_shows_asks_erases_and_reports(filled):
    dry = said("forget", "--subject", NAME, "--dry-run")
    assert [(one["workspace"], one["counts"]["trajectories"]) for one in dry] == [("support", 4)]
    assert "t003" in run("forget", "--subject", NAME, "--dry-run")
    with pytest.raises(FlywheelError, match="look with --dry-run, then add --yes"):
        run("forget", "--subject", NAME)
    assert records(filled) == []

    [done] = said("forget", "--subject", NAME, "--because", "she asked for it", "--yes")
    assert (done["because"], done["counts"]["captured rows"], len(done["versions"])) == ("she asked for it", 3, 4)
    assert "salt" not in done and holding(filled) == []

    told = said("corpus", "verify", "support@v1")
    assert (told["whole"], [note["rows"] for note in told["erased"]]) == (True, [3])
    assert "3 rows (3 candidates) erased since" in run("corpus", "verify", "support@v1")
    log = {version["version"]: version["erased"] for version in said("corpus", "log", "support")}
    assert (log[1], log[4]) == (3, 0)
    assert said("corpus", "diff", "support@v1", "support@v4")["whys"]["erased"] == 3
    assert {row["why"] for row in said("corpus", "rebuild", "support@v1")["differences"]} == {"erased"}
    with pytest.raises(FlywheelError, match="support@v1 is not whole any more: 3 rows"):
        inputs.rows(filled, {"corpus": "support", "version": 1})


def test_people_are_told_what_came_of_it(filled):
    told = " ".join(run("forget", "--subject", NAME, "--yes").split())
    assert "the champion dpo-1 came of erased rows; train one without them: flywheel train sft support@v5" in told
    assert "support@v4" in told and "cleared reports/one/report.md of 2" in told
    assert "nothing was found" in run("forget", "--subject", NAME, "--yes")


def test_one_episode_by_its_id(filled):
    [done] = said("forget", "--trajectory", "t005", "--workspace", "support", "--yes")
    assert (done["asked"], done["counts"]["trajectories"]) == ({"subjects": 0, "trajectories": 1}, 1)
    with pytest.raises(FlywheelError, match="was erased before"):
        run("forget", "--trajectory", "t005", "--dry-run")


def test_what_was_interrupted_is_brought_to_its_end(filled, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(forget.corpus, "purge", kill)
        forget.forget(filled, forget.Asked(subjects=(NAME,)))
    [done] = said("forget")
    assert done["done_at"] and len(done["versions"]) == 4 and holding(filled) == []
    with pytest.raises(FlywheelError, match="say whom or what to forget"):
        run("forget")


def test_a_text_that_names_nearly_anybody_is_refused(filled):
    with pytest.raises(FlywheelError, match="write at least 3 letters"):
        run("forget", "--subject", "Jo", "--dry-run")


def test_an_id_that_names_the_person_is_told(filled):
    one = msgspec.structs.replace(trajectory(30, TUESDAY), id="Jane Doe 30")
    write(filled, [one], [msgspec.structs.replace(verdict(30, 1.0, arrived_at=TUESDAY), trajectory_id=one.id)])
    snapshot(filled, "named", SPEC, TUESDAY)
    [done] = said("forget", "--subject", "Jane Doe", "--yes")
    assert done["left"] == ["corpora/named/decisions/v1.parquet"]
