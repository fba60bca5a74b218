"""`flywheel environments` as a person and as a script use it."""

import json

from typer.testing import CliRunner

from flywheel.cli import app

cli = CliRunner()


def said(*arguments: str):
    result = cli.invoke(app, ["environments", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list():
    desk, files = said("list")
    assert (desk["name"], files["name"]) == ("desk", "files")
    assert desk["agents"] == ["desk-bot 1.0", "desk-bot 1.1", "desk-bot 2.0"]


def test_prove():
    proof = said("prove", "files", "--n", "100")
    assert proof["holds"] and proof["proof"]["reference"] == 1.0


def test_show_task():
    shown = said("show-task", "desk", "--index", "2", "--seed", "5")
    assert shown["score"]["success"]
    assert shown["reference"][1] == {**shown["reference"][1], "role": "user", "content": shown["task"]["prompt"]}


def test_tables_for_people():
    for arguments in (["list"], ["prove", "desk", "--n", "60"], ["show-task", "files"]):
        assert cli.invoke(app, ["environments", *arguments]).exit_code == 0


def test_wrong_usage_is_two():
    assert cli.invoke(app, ["environments", "prove", "desk", "--split", "middle"]).exit_code == 2
