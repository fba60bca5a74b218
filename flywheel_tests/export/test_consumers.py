"""The readers that each export is for: `datasets`, one step of each trainer of TRL, and Axolotl's strategy."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flywheel.export import choose, formats, write
from flywheel.export.learned import Learned
from flywheel.export.trajectories import Trajectories
from flywheel.preferences import storage
from flywheel.preferences.gates import Gates
from flywheel.preferences.pairs import branches
from flywheel.schema import ToolCall
from flywheel.settings import Home
from flywheel.views.formats import FORMATS
from flywheel_tests.corpus.conftest import trajectory, verdict
from flywheel_tests.corpus.conftest import write as written
from flywheel_tests.preferences.test_pairs import boxes

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks up an order.",
            "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}},
        },
    },
    {"type": "function", "function": {"name": "list_all", "parameters": {"type": "object", "properties": {}}}},
]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight episodes with tools, half of which succeeded, and pairs: in every format that is trained on."""
    root = tmp_path_factory.mktemp("exports")
    home = Home(root / "data")
    rows = [msgspec.structs.replace(trajectory(n), task_group="g-train", tools=json.dumps(TOOLS)) for n in range(8)]
    # Calls of different arguments, two at once, and steps without content, as real ones have them.
    first = rows[0]
    both = (ToolCall(id="a", name="list_all", arguments="{}"), ToolCall(id="b", name="look_up", arguments="[0]"))
    steps = list(first.steps)
    steps[2] = msgspec.structs.replace(steps[2], tool_calls=both, content="Both.", metadata='{"weight":0}')
    steps[3] = msgspec.structs.replace(steps[3], tool_call_id="a", tool_name="list_all")
    steps.insert(4, msgspec.structs.replace(steps[3], tool_call_id="b", tool_name="look_up", is_error=True))
    rows[0] = msgspec.structs.replace(first, steps=tuple(steps))
    broken = (ToolCall(id="call_0", name="look_up", arguments="{broken"),)
    steps = list(rows[2].steps)
    steps[2] = msgspec.structs.replace(steps[2], tool_calls=broken)
    rows[2] = msgspec.structs.replace(rows[2], steps=tuple(steps))
    written(home, rows, [verdict(n, float(n % 2), "reward") for n in range(8)])
    chosen = choose.of_workspace(home, "support")
    for name in FORMATS:
        write.files(Trajectories(home, chosen, FORMATS[name]), root / name, packed=name == "sharegpt")
    storage.save(home.pairs / "p", branches(boxes(), Gates(decision_share=1.0)), Gates())
    write.files(Learned(home, "trl-dpo", "p"), root / "trl-dpo")
    write.files(formats.source(_tries(root), choose.of_workspace(_tries(root), "support"), "trl-dpo"), root / "tries")
    return root


def _tries(root: Path) -> Home:
    """Two tries of each of four tasks, one of which succeeded."""
    home = Home(root / "tried")
    if not home.root.exists():
        rows = [msgspec.structs.replace(trajectory(n), task_group="g-train", tools=json.dumps(TOOLS)) for n in range(8)]
        for n in range(4):
            other = msgspec.structs.replace(rows[n + 4], task_id=rows[n].task_id)
            steps = (*rows[n].steps[:4], msgspec.structs.replace(rows[n].steps[4], content="I may not."))
            rows[n + 4] = msgspec.structs.replace(other, steps=steps)
        written(home, rows, [verdict(n, float(n < 4), "reward") for n in range(8)])
    return home


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is asked of a hub, and what is cached is the test's own."""
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")


def loaded(folder: Path, cache: Path) -> Any:
    """An export as `load_dataset(FOLDER)` reads it, by the head of its card."""
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("name", ["trl-sft", "trl-dpo", "trl-kto", "trl-prompts", "openai", "axolotl", "sharegpt"])
def test_datasets_reads_the_rows_as_they_were_written(exports: Path, name: str, tmp_path: Path):
    import gzip

    [path] = (exports / name).glob("train.jsonl*")
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    expected = [json.loads(line) for line in text.splitlines()]
    assert [_without_none(row) for row in loaded(exports / name, tmp_path)] == [_without_none(r) for r in expected]


def test_datasets_reads_raw_steps_and_hermes(exports: Path, tmp_path: Path):
    from datasets import load_dataset

    assert len(loaded(exports / "steps", tmp_path)) == 8 * 5 + 1
    shared = load_dataset(str(exports / "steps"), "trajectories", split="train", cache_dir=str(tmp_path))
    assert shared["id"] == [f"t{n:03}" for n in range(8)]
    assert [row["metadata"]["trajectory_id"] for row in loaded(exports / "hermes", tmp_path)] == shared["id"]


def _without_none(value: Any) -> Any:
    """Columns that a row has not are null in a table."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def words(exports: Path) -> Any:
    from flywheel.train.tokenizer import build

    text = " ".join(path.read_text() for path in exports.glob("trl-*/train.jsonl"))
    return build(TOOLS, [text.replace('"', " ")], min_count=1)


@pytest.fixture(scope="module")
def model(words: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model of one layer."""
    from flywheel.train import policy
    from flywheel.train.config import Size

    folder = tmp_path_factory.mktemp("model")
    policy.save(policy.scratch(words, Size(width=16, layers=1, heads=2, feed_forward=32), 512, seed=0), words, folder)
    return str(folder)


def arguments(folder: Path, **own: Any) -> dict[str, Any]:
    """One step on the CPU."""
    return {
        "output_dir": str(folder),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        **own,
    }


def stepped(trainer: Any) -> None:
    """The step is taken, with a loss that is a number and weights that move."""
    import torch

    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    result = trainer.train()
    assert result.global_step == 1 and result.training_loss == result.training_loss
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def learnt(encoded: Any) -> list[int]:
    """The tokens that are trained."""
    return [token for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label != -100]


@pytest.mark.slow  # imports torch and TRL's trainers
def test_one_step_of_each_trl_trainer(exports: Path, words: Any, model: str, tmp_path: Path):
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    def rows(name: str) -> Any:
        return loaded(exports / name, tmp_path / "cache")

    sft = SFTTrainer(
        model=model,
        processing_class=words,
        train_dataset=rows("trl-sft"),
        args=SFTConfig(**arguments(tmp_path, assistant_only_loss=True)),
    )
    # What the assistant wrote is trained, calls included, and nothing else.
    [encoded] = [row for row in sft.train_dataset if "Both." in words.decode(row["input_ids"])]
    said = words.decode(learnt(encoded))
    assert said.startswith("<think>\nLook first.") and '{"name": "list_all", "arguments": {}}' in said
    assert "found" not in said and "please" not in said and "Your refund 0 is done." in said
    stepped(sft)
    stepped(
        DPOTrainer(
            model=model,
            processing_class=words,
            train_dataset=rows("trl-dpo"),
            args=DPOConfig(**arguments(tmp_path)),
        )
    )
    assert len(rows("tries")) == 4
    stepped(
        DPOTrainer(
            model=model,
            processing_class=words,
            train_dataset=rows("tries"),
            args=DPOConfig(**arguments(tmp_path)),
        )
    )
    stepped(
        KTOTrainer(
            model=model,
            processing_class=words,
            train_dataset=rows("trl-kto"),
            args=KTOConfig(**arguments(tmp_path)),
        )
    )
    seen: list[Any] = []

    def reward(completions: list[Any], task_id: list[str], task_type: list[str], **_: Any) -> list[float]:
        seen.extend(zip(task_id, task_type, strict=True))
        return [float(number) for number, _ in enumerate(completions)]

    stepped(
        GRPOTrainer(
            model=model,
            processing_class=words,
            reward_funcs=reward,
            train_dataset=rows("trl-prompts"),
            args=GRPOConfig(**arguments(tmp_path, num_generations=2, max_completion_length=4)),
        )
    )
    assert seen and all(task.startswith("task-") and kind == "desk" for task, kind in seen)


def test_axolotl_s_own_strategy(exports: Path, words: Any, tmp_path: Path):
    strategies = pytest.importorskip(
        "axolotl.prompt_strategies.chat_template",
        reason="axolotl is not installed; its wheel, addict and colorama on the path are enough for this test",
    )
    from axolotl.utils.dict import DictDefault  # pyright: ignore[reportMissingImports]

    config = {
        "type": "chat_template",
        "field_messages": "messages",
        "field_tools": "tools",
        "message_field_training": "training",
        "roles_to_train": ["assistant"],
    }
    # As the card says it.
    page = (exports / "axolotl" / "README.md").read_text()
    assert all(f"{key}: {value}" in page for key, value in config.items() if isinstance(value, str))
    strategy = strategies.load(
        words, DictDefault({"sequence_len": 2048, "train_on_inputs": False}), DictDefault(config)
    )
    [first, *others] = loaded(exports / "axolotl", tmp_path)
    # It stops at arguments that are no JSON.
    assert len(others) == 6 and "| the arguments of a call are no JSON | 1 |" in page
    # Its first turn has the weight 0.
    assert words.decode(learnt(strategy.tokenize_prompt(first))) == "Your refund 0 is done.<|im_end|>"
    said = words.decode([token for row in others for token in learnt(strategy.tokenize_prompt(row))])
    assert '{"order": 1}' in said and "found" not in said and "please" not in said


def test_axolotl_s_documented_fields(exports: Path):
    for line in (exports / "axolotl" / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert {tool["type"] for tool in row["tools"]} == {"function"}
        for message in row["messages"]:
            assert message["role"] in ("system", "user", "assistant", "tool")
            assert isinstance(message["content"], str)
            assert isinstance(message.get("training", True), bool)
            assert isinstance(message.get("reasoning_content", ""), str)
