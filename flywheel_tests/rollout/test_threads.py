"""A small model gets one thread; a larger one keeps what torch chose."""

from collections.abc import Iterator

import pytest
import torch

from flywheel.rollout.threads import SMALL, suit


class Sized:
    """A model of which the size alone is known."""

    def __init__(self, parameters: int) -> None:
        self.parameters = parameters

    def num_parameters(self) -> int:
        return self.parameters


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_model_is_faster_alone() -> None:
    suit(Sized(700_000))
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("two_threads")
def test_a_larger_one_shares_its_work_out() -> None:
    suit(Sized(SMALL))
    assert torch.get_num_threads() == 2
