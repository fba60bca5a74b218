"""A budget of tokens for each trajectory that goes out: how they are counted, and what summarises."""

from __future__ import annotations

import pkgutil
from typing import Any, cast

import msgspec

from flywheel.schema import FlywheelError
from flywheel.views.compress import Count, Summarise, characters


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `max_tokens`, as `count` counts them; `summarise` writes what stands for steps, else a marker does."""

    max_tokens: int
    counted_by: str = "characters / 4"
    count: Count = characters
    summarised_by: str = ""
    summarise: Summarise | None = None

    def said(self) -> dict[str, Any]:
        """How it reads on a card."""
        return {
            "max_tokens": self.max_tokens,
            "counted_by": self.counted_by,
            "summarised_by": self.summarised_by or "a marker",
        }


def budget(max_tokens: int, tokenizer: str | None = None, summariser: str | None = None) -> Budget:
    """A budget with a tokenizer by folder or name, and a summariser as `PACKAGE.MODULE:FUNCTION`.

    The function takes steps and the tokens that it may use, and gives a text.

    Raises:
        FlywheelError: when there is no such tokenizer or function.
    """
    made = Budget(max_tokens=max_tokens)
    if tokenizer is not None:
        made = msgspec.structs.replace(made, counted_by=tokenizer, count=_counting(tokenizer))
    if summariser is not None:
        made = msgspec.structs.replace(made, summarised_by=summariser, summarise=_resolved(summariser))
    return made


def _counting(tokenizer: str) -> Count:
    from transformers import AutoTokenizer

    from flywheel.rollout.quiet import quiet

    try:
        with quiet():
            loaded: Any = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise FlywheelError(f"there is no tokenizer {tokenizer!r}: {str(error).splitlines()[0]}") from error
    return lambda texts: [len(ids) for ids in loaded(list(texts), add_special_tokens=False)["input_ids"]]


def _resolved(summariser: str) -> Summarise:
    try:
        found = pkgutil.resolve_name(summariser)
    except (ImportError, AttributeError, ValueError) as error:
        raise FlywheelError(
            f"there is no summariser {summariser!r} ({error}); name a function as PACKAGE.MODULE:FUNCTION"
        ) from error
    if not callable(found) or ":" not in summariser:
        raise FlywheelError(f"{summariser!r} is no function; name one as PACKAGE.MODULE:FUNCTION")
    return cast("Summarise", found)
