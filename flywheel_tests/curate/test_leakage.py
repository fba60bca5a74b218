"""Planted leaks are found; what only looks alike is left alone."""

import pyarrow as pa

from flywheel.curate.leakage import LEAKS, audit
from flywheel.schema import trajectories_table
from flywheel_tests.outcomes.stored import trajectory

ASKED = (
    "Please find the invoice of the March order in the archive, copy it to the folder of the customer Berger, "
    "tell her where it is, and close the ticket."
)
EVALUATION = pa.table({"task_id": ["eval-1", "eval-2"], "task_group": ["held", "held"], "text": [ASKED, "Cancel O12."]})


def leaks(*rows):
    found = audit(trajectories_table(list(rows)), EVALUATION).to_pylist()
    return [(leak["trajectory_id"], leak["kind"], leak["evaluation_task_id"]) for leak in found]


def test_other_tasks_do_not_leak():
    rows = [trajectory("a", "Refund O12."), trajectory("b", "Cancel O13."), trajectory("c", "Please cancel O12.")]
    assert audit(trajectories_table(rows), EVALUATION).equals(LEAKS.empty_table())
    assert leaks() == []


def test_the_same_task_and_another_of_its_group():
    assert leaks(trajectory("a", task="eval-2")) == [("a", "task", "eval-2")]
    assert leaks(trajectory("a", task_group="held")) == [("a", "group", "eval-1")]


def test_the_same_words_whatever_their_case():
    assert leaks(trajectory("a", "cancel o12!", "It is cancelled.")) == [("a", "exact", "eval-2")]


def test_nearly_the_same_words():
    rows = trajectories_table([trajectory("a", "Hello! " + ASKED, "Done, it is in the folder.")])
    (leak,) = audit(rows, EVALUATION).to_pylist()
    assert (leak["kind"], leak["evaluation_task_id"]) == ("near", "eval-1")
    assert 0.9 <= leak["similarity"] < 1


def test_the_same_wording_about_other_things_is_no_leak():
    other = ASKED.replace("invoice", "receipt").replace("March", "June").replace("Berger", "Ito")
    assert leaks(trajectory("a", other)) == []


def test_a_whole_held_out_episode_is_found_in_a_training_row():
    episode = [f"turn {i}: {ASKED}" for i in range(6)]
    evaluation = pa.table({"task_id": ["e"], "task_group": ["held"], "text": [" ".join(episode)]})
    rows = trajectories_table([trajectory("a", *episode[:-1], episode[-1] + " Bye."), trajectory("b", *episode[:2])])
    found = audit(rows, evaluation).to_pylist()
    assert [(leak["trajectory_id"], leak["kind"]) for leak in found] == [("a", "near")]
