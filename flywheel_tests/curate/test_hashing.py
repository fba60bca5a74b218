"""The embedder without a model: near texts have near vectors, and the same ones on every machine."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from flywheel.curate import hashing

TEXTS = st.lists(st.text(st.sampled_from("ab éÉ7_-.\n漢 the"), max_size=30), max_size=6)


def of(*texts):
    return hashing.vectors(pa.array(texts, pa.string()))


def near(a, b):
    first, second = of(a, b)
    return float(first @ second)


def test_a_text_has_one_vector_of_length_one():
    vectors = of("Refund order 17, please", "", None, "!?")
    assert vectors.shape == (4, hashing.SIZE)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1).round(6).tolist() == [1, 0, 0, 0]


def test_case_punctuation_and_order_are_no_difference():
    assert of("Refund order_17!").tolist() == of("order 17 refund").tolist()


def test_other_forms_of_a_word_are_near_and_other_words_are_not():
    assert near("cancel the flight", "cancelled flights") > 0.3
    assert abs(near("cancel the flight", "print every invoice")) < 0.15


def test_words_that_say_how_something_is_asked_hardly_count():
    assert near("could you please cancel it for me", "cancel") > 0.9
    assert near("could you please cancel it", "could you please refund it") < 0.3


@given(TEXTS, st.randoms())
def test_a_vector_depends_on_its_text_alone(texts, random):
    shuffled = random.sample(texts, len(texts))
    vectors = {text: vector.tolist() for text, vector in zip(shuffled, of(*shuffled), strict=True)}
    assert [vectors[text] for text in texts] == of(*texts).tolist()


def test_vectors_are_the_same_on_every_machine():
    texts = ["Ship order_17 to Besançon", "日本の 請求書", "cancel the cancelled cancellation " * 300]
    assert hashlib.sha256(of(*texts).astype("<f4").tobytes()).hexdigest()[:16] == "0ef48940a9237364"
