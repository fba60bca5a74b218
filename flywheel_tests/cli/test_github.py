"""`flywheel github` as a person uses it."""

from __future__ import annotations

from flywheel.settings import Home
from flywheel_tests.cli.test_capture import here as here
from flywheel_tests.cli.test_capture import run


def test_a_webhook_is_set_up_and_pull_requests_are_linked(home: Home) -> None:
    run("workspace", "create", "desk")
    made = run("github", "link", "-w", "desk")
    assert (made["path"], len(made["secret"])) == ("/w/desk/github", 64)
    assert run("github", "link", "-w", "desk", "--new")["secret"] != made["secret"]
    assert run("github", "link-pr", "Octo/Shop#12", "t-1", "t-2", "-w", "desk")["pull_request"] == "octo/shop#12"
    assert [link["trajectory"] for link in run("github", "links", "-w", "desk")] == ["t-1", "t-2"]
