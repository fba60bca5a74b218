"""An actor on a model from transformers: batches, caches and early ends change nothing of what is written."""

from pathlib import Path

import pytest

from flywheel.environments.protocol import Situation, opening
from flywheel.rollout.transformers_actor import TransformersActor
from flywheel.schema import FlywheelError, Step
from flywheel.train import policy
from flywheel.train.config import Size
from flywheel.train.tokenizer import build
from flywheel.views.messages import to_messages
from flywheel_tests.rollout.toy import Boxes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose vocabulary is small enough for it to end its turns now and then."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build(Boxes.tools, ["Done it is open"], min_count=1)
    size = Size(width=32, layers=2, heads=2, feed_forward=64, initializer_range=0.3)
    policy.save(policy.scratch(tokenizer, size, context=128, seed=0), tokenizer, folder)
    return folder


def situations() -> list[Situation]:
    """Three of different lengths."""
    task = Boxes().task("t", "open")
    talk = Step(role="user", content="it is open, it is open, and more words that are not known")
    return [Situation(task, (*opening(task), *([talk] * i))) for i in range(3)]


def actor(model: Path, **settings: int) -> TransformersActor:
    return TransformersActor(model, name="m", version="1", **settings)


def test_greedy_steps_are_those_of_generate(model: Path):
    import torch

    ours = actor(model, max_tokens=12)
    acts = ours.act(situations(), n=2, temperature=0.0, seed=0)
    for situation, [act, same] in zip(situations(), acts, strict=True):
        prompt = ours._tokenizer.apply_chat_template(
            to_messages(situation.steps), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            whole = ours._model.generate(**prompt, do_sample=False, max_new_tokens=12)
        written = whole[0, prompt["input_ids"].shape[1] :]
        assert act == same
        assert act.tokens == len(written)
        assert (act.step.content or "") == ours._tokenizer.decode(written).removesuffix("<|im_end|>").strip()


def test_the_log_probability_is_that_of_the_tokens_written(model: Path):
    import torch

    ours = actor(model, max_tokens=4)
    [acts] = ours.act(situations()[:1], n=8, temperature=0.7, seed=1)
    prompt = ours._prompt(situations()[0])
    for act in acts:
        written = ours._tokenizer(act.step.content or "")["input_ids"]
        if act.tokens != len(written):
            continue
        with torch.inference_mode():
            logp = ours._model(torch.tensor([prompt + written])).logits[0].log_softmax(-1)
        expected = sum(logp[len(prompt) - 1 + i, token].item() for i, token in enumerate(written))
        assert act.logprob == pytest.approx(expected, abs=1e-3)


def test_the_same_call_gives_the_same_steps_and_another_seed_others(model: Path):
    first, again, other = (actor(model).act(situations(), n=4, temperature=1.0, seed=seed) for seed in (5, 5, 6))
    assert first == again != other
    assert [len(acts) for acts in first] == [4, 4, 4]
    assert len({act.step for acts in first for act in acts}) > 3


def test_what_is_no_model_is_told(tmp_path: Path):
    with pytest.raises(FlywheelError, match="no causal model"):
        actor(tmp_path)
