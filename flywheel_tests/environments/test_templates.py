"""Templates, their splits, and the words they are made of."""

import pytest

from flywheel import environments
from flywheel.curate.split import split_of
from flywheel.environments.cases import case_of
from flywheel.environments.protocol import Split
from flywheel.schema import FlywheelError
from flywheel_tests.environments.vocabulary import example_episodes, vocabulary, words

NAMES = environments.names()
SPLITS: tuple[Split, Split] = ("train", "heldout")


def test_two_environments_ship():
    assert environments.names() == ("desk", "files")
    assert environments.get("desk").name == "desk"


def test_an_unknown_environment_is_answered_with_the_known_ones():
    with pytest.raises(FlywheelError, match=r"no environment 'desc'; there are: desk, files"):
        environments.get("desc")


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_on_the_side_that_curation_puts_its_group_on(name):
    for split, templates in environments.get(name).templates.items():
        assert {split_of(template.group, 25) for template in templates} == {split}


@pytest.mark.parametrize("name", NAMES)
def test_about_a_quarter_is_held_out_and_every_scenario_is_on_both_sides(name):
    place = environments.get(name)
    train, heldout = place.templates["train"], place.templates["heldout"]
    assert len(heldout) >= 6
    assert 0.15 < len(heldout) / (len(train) + len(heldout)) < 0.35
    scenarios = {scenario.name for scenario in place.scenarios}
    assert {t.scenario.name for t in train} == {t.scenario.name for t in heldout} == scenarios


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_group_and_no_prompt(name):
    place = environments.get(name)
    tasks = {split: place.tasks(split, 500, 0) for split in SPLITS}
    assert not {t.group for t in tasks["train"]} & {t.group for t in tasks["heldout"]}
    assert not {t.prompt for t in tasks["train"]} & {t.prompt for t in tasks["heldout"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_tasks_and_fewer_are_the_first_of_more(name):
    place = environments.get(name)
    assert place.tasks("train", 20, 7) == place.tasks("train", 50, 7)[:20]
    assert place.tasks("train", 20, 7) != place.tasks("train", 20, 8)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_have_ids_of_their_own(name):
    place = environments.get(name)
    tasks = [task for split in SPLITS for seed in (0, 1) for task in place.tasks(split, 300, seed)]
    assert len({task.id for task in tasks}) == len(tasks)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_a_prompt_does_not_tell_what_decides(name, split):
    """Tasks that read the same want different things: nothing in the prompt gives the fact away."""
    place = environments.get(name)
    wanted: dict[str, set[tuple[str, ...]]] = {}
    for task in place.tasks(split, 3000, 3):
        wanted.setdefault(task.group, set()).add(tuple(call.name for call in case_of(task).act))
    undecided = {group for group, acts in wanted.items() if len(acts) > 1}
    one_deed = {group for group in wanted if "setting" in group or "notes" in group}
    assert undecided | one_deed == set(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_templates_use_no_word_that_training_does_not_know(name):
    known = set(vocabulary(name))
    for task in environments.get(name).tasks("heldout", 500, 11):
        case = case_of(task)
        texts = [task.system, task.prompt, case.say, case.hasty_say, *case.world.values()]
        texts += [value for call in (*case.looks, *case.act, case.hasty) for value in call.arguments.values()]
        assert {word for text in texts for word in words(text)} <= known


@pytest.mark.parametrize("name", NAMES)
def test_example_episodes_stay_in_the_vocabulary_and_the_same_seed_gives_the_same(name):
    known = set(vocabulary(name))
    episodes = list(example_episodes(name, 200, 5))
    assert episodes == list(example_episodes(name, 200, 5))
    spoken = {word for steps in episodes for step in steps for word in words(step.content or "")}
    assert spoken <= known


@pytest.mark.parametrize("name", NAMES)
def test_tools_are_function_schemas_in_alphabetical_order(name):
    tools = environments.get(name).tools
    assert [t["function"]["name"] for t in tools] == sorted(t["function"]["name"] for t in tools)
    for tool in tools:
        parameters = tool["function"]["parameters"]
        assert parameters["required"] == list(parameters["properties"])
