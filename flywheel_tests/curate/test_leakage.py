"""Planted leaks are found; what only looks alike is left alone."""

import json

import msgspec
import pyarrow as pa

from flywheel.curate.leakage import LEAKS, ROWS, TASKS, audit
from flywheel.schema import Step, trajectories_table
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


def evaluation(*tasks):
    """Evaluation tasks of two groups; what a literal row does not say is null."""
    told = [{"suite": "own", "task_group": "held", "text": "Cancel O12."} | task for task in tasks]
    return pa.Table.from_pylist(told, schema=TASKS)


def kinds(rows, suite):
    return [(leak["trajectory_id"], leak["kind"]) for leak in audit(trajectories_table(rows), suite).to_pylist()]


ANSWER = "The warranty of the lamp ended on 3 May because the seal was broken."


def test_a_reference_answer_is_found_wherever_it_stands():
    suite = evaluation({"task_id": "e", "answers": [ANSWER]})
    rows = [
        trajectory("a", "May I ask?", f"Sure. {ANSWER.upper()} Sorry!"),
        trajectory("b", "What now?", "The warranty of the lamp ended."),
    ]
    (leak,) = audit(trajectories_table(rows), suite).to_pylist()
    assert (leak["trajectory_id"], leak["kind"], leak["suite"]) == ("a", "reference answer", "own")
    assert ANSWER.upper() in leak["training_excerpt"] and leak["evaluation_excerpt"] == ANSWER


def test_short_answers_are_in_many_texts_by_chance():
    suite = evaluation({"task_id": "e", "answers": ["yes", "42", "Paris", "It is done.", "2026-11-02"]})
    assert kinds([trajectory("a", "42?", "Yes, Paris. It is done. 2026-11-02")], suite) == []


def test_an_identifier_is_specific_though_it_is_one_word():
    suite = evaluation({"task_id": "e", "answers": ["key9f3a77c1"]})
    assert kinds([trajectory("a", "Look", "I saw key9f3a77c1.")], suite) == [("a", "reference answer")]


def test_an_answer_that_the_task_itself_shows_is_no_secret():
    suite = evaluation({"task_id": "e", "answers": [ANSWER], "text": f"Say this: {ANSWER} Thanks."})
    assert kinds([trajectory("a", "Say it", ANSWER)], suite) == []


def test_what_many_tasks_answer_is_a_way_of_speaking():
    suite = evaluation(*({"task_id": f"e{i}", "answers": [ANSWER]} for i in range(4)))
    assert kinds([trajectory("a", "Look", ANSWER)], suite) == []


def test_so_is_what_many_rows_say_anyway():
    suite = evaluation({"task_id": "e", "answers": [ANSWER]})
    few = [trajectory(f"t{i:02}", f"Question {i}", ANSWER) for i in range(20)]
    assert len(kinds(few, suite)) == 20
    assert kinds([*few, trajectory("t20", "Another", ANSWER)], suite) == []


def test_the_same_initial_state_where_both_sides_say_it():
    suite = evaluation({"task_id": "e", "state": "commit 4b825dc"}, {"task_id": "f"})
    began = json.dumps({"initial_state": "commit 4b825dc"})
    rows = [trajectory("a", metadata=began), trajectory("b", metadata=began.replace("4b", "5b")), trajectory("c")]
    assert kinds(rows, suite) == [("a", "shared state")]


def test_a_state_in_which_many_tasks_begin_is_the_environments():
    suite = evaluation(*({"task_id": f"e{i}", "state": "an empty database"} for i in range(4)))
    assert kinds([trajectory("a", metadata=json.dumps({"initial_state": "an empty database"}))], suite) == []


def test_a_long_prompt_that_is_quoted_later_in_an_episode():
    rows = [trajectory("a", "Hello!", "What is it?", f"My colleague wrote: {ASKED} Can you explain what she meant?")]
    assert leaks(*rows) == [("a", "quoted", "eval-1")]


def test_what_a_system_message_gives_away():
    steps = (Step(role="system", content=f"Examples: {ASKED}"), Step(role="user", content="Hi."))
    row = msgspec.structs.replace(trajectory("a"), steps=steps)
    assert leaks(row) == [("a", "quoted", "eval-1")]


def test_each_suite_is_named():
    suite = evaluation({"task_id": "e", "suite": "one"}, {"task_id": "f", "suite": "two", "task_group": "other"})
    found = audit(trajectories_table([trajectory("a", task_group="other")]), suite).to_pylist()
    assert [(leak["suite"], leak["evaluation_task_id"]) for leak in found] == [("two", "f")]


def test_batches_give_what_one_table_gives():
    rows = [trajectory(f"t{i:03}", ASKED if i % 7 == 0 else f"Refund O{i}.") for i in range(60)]
    table = trajectories_table(rows)
    whole = audit(table, EVALUATION)
    assert len(whole) == 9 and len(table) < ROWS
    assert audit((table.slice(start, 11) for start in range(0, 60, 11)), EVALUATION).equals(whole)
