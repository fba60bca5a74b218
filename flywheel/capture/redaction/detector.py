"""The detector: all rules that a policy asks for, searched for in one pass over a text."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import re2

from flywheel.capture.redaction import credentials, personal, readings
from flywheel.capture.redaction.policy import Policy
from flywheel.capture.redaction.rules import Rule
from flywheel.schema import FlywheelError

SHORTEST = len("a@bc.de")
# Of what else placeholders tell: printed rewards, and layers of a prompt.
OTHERS = ("LABEL", "SYSTEM_PROMPT", "INJECTED_MEMORY", "RETRIEVED_CONTEXT")


class Span(NamedTuple):
    """A place in a text, the kind of what stands there, and whether that was told by what stands around it alone."""

    start: int
    end: int
    kind: str
    said: bool


class Detector:
    """Finds what a policy does something about. `kinds` are all it knows; `placeholder` matches what it leaves."""

    def __init__(self, policy: Policy) -> None:
        own = [_custom(kind, custom.pattern, custom.flags) for kind, custom in policy.custom.items()]
        known = [*own, *credentials.rules(), *personal.rules()]
        self.kinds = {rule.kind for rule in known}
        self.placeholder = re.compile(
            rf"<(?:DROPPED:)?(?:{'|'.join(sorted({*self.kinds, *OTHERS}))})(?:_\d+)?(?::[0-9a-f]{{12}})?>"
        )
        self._rules = [rule for rule in known if policy.action(rule.kind) != "off"]
        self._looks = re2.Set.SearchSet(_options())
        for rule in self._rules:
            self._looks.Add(rule.look)
        self._looks.Compile()
        self._allow = {value.casefold() for value in policy.allow}
        self._allow_patterns = [pattern(allowed) for allowed in policy.allow_patterns]

    def suspicious(self, text: str) -> bool:
        """The prefilter: a text that does not pass holds nothing that any rule could match."""
        if blobs := readings.without_blobs(text):
            return self.suspicious(blobs.text)
        return len(text) >= SHORTEST and bool(
            self._looks.Match(text) or any(self._looks.Match(reading.text) for reading in readings.readings(text))
        )

    def find(self, text: str, before: str = "") -> list[Span]:
        """What stands in a text, from left to right; nothing overlaps. `before` says what the text is, such as its key.

        Where rules disagree the earlier one has it: a workspace's own, then the particular before the general. What
        only shows when the text is read (`readings`) is found too, and what is seen to be longer then.
        """
        if len(text) < SHORTEST and not before:
            return []
        if blobs := readings.without_blobs(text):
            return [Span(*blobs.span(of.start, of.end), of.kind, of.said) for of in self.find(blobs.text, before)]
        found = self._seen(text, before)
        for reading in readings.readings(text):
            read = self._seen(reading.text, before)
            found = _widened(found, [Span(*reading.span(of.start, of.end), of.kind, of.said) for of in read])
        return found

    def _seen(self, text: str, before: str) -> list[Span]:
        """What stands in a text as it is."""
        lead = f"{before}: " if before else ""
        whole = lead + text if lead else text
        looked = self._looks.Match(whole)
        if not looked:
            return []
        taken = self._taken(whole)
        taken[: len(lead)] = b"\1" * len(lead)
        found: list[Span] = []
        for index in sorted(looked):
            rule = self._rules[index]
            said = rule.near is not None or rule.group != 0
            for start, end in rule.spans(whole):
                if taken.find(1, start, end) >= 0 or self._allowed(whole[start:end]):
                    continue
                taken[start:end] = b"\1" * (end - start)
                found.append(Span(start - len(lead), end - len(lead), rule.kind, said))
        return sorted(found)

    def again(self, text: str, known: Mapping[str, str]) -> list[Span]:
        """Where values that were found before (with their kinds) stand once more, as words of their own."""
        there = [value for value in list(known) if value in text]
        if not there:
            return []
        taken = self._taken(text)
        places = re.finditer(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, there))})(?![A-Za-z0-9])", text)
        return [Span(*place.span(), known[place.group()], True) for place in places if taken.find(1, *place.span()) < 0]

    def _taken(self, text: str) -> bytearray:
        """For each character whether it is of a placeholder."""
        taken = bytearray(len(text))
        if "<" in text:
            for match in self.placeholder.finditer(text):
                taken[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        return taken

    def _allowed(self, value: str) -> bool:
        return value.casefold() in self._allow or any(allowed.fullmatch(value) for allowed in self._allow_patterns)


def _widened(found: list[Span], read: list[Span]) -> list[Span]:
    """What was found, and what is only read: it stands for what it covers, and gives way where it does not cover it."""
    starts, ends = [span.start for span in found], [span.end for span in found]
    covered: set[int] = set()
    more: list[Span] = []
    for span in read:
        over = range(bisect_right(ends, span.start), bisect_left(starts, span.end))
        wider = all(span.start <= starts[n] and ends[n] <= span.end for n in over)
        same = any((starts[n], ends[n]) == span[:2] for n in over)
        if wider and not same and (not more or more[-1].end <= span.start):
            covered.update(over)
            more.append(span)
    return sorted([span for n, span in enumerate(found) if n not in covered] + more)


def detector(policy: Policy) -> Detector:
    """The detector of a policy; made once for equal ones."""
    return _made(msgspec.json.encode(policy))


@lru_cache(maxsize=64)
def _made(policy: bytes) -> Detector:
    return Detector(msgspec.json.decode(policy, type=Policy))


def pattern(text: str, flags: str = "") -> Any:
    """A pattern of RE2, which takes linear time.

    Raises:
        FlywheelError: for what RE2 does not take (look-around and back-references among it), or matches nothing at all.
    """
    if set(flags) - set("ims"):
        raise FlywheelError(f"flags {flags!r} are not known; i, m and s are")
    try:
        compiled = re2.compile(f"(?{flags}:{text})" if flags else text, _options())
    except re2.error as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise FlywheelError(
            f"the pattern {text!r} cannot be used: {said}; it must be of RE2's syntax, which has no look-around and no "
            "back-references, so that no text can stall it"
        ) from error
    if compiled.search(""):
        raise FlywheelError(f"the pattern {text!r} matches the empty text; write one that matches what is to go")
    return compiled


def _custom(kind: str, text: str, flags: str) -> Rule:
    compiled = pattern(text, flags)
    look = f"(?{flags}:{text})" if flags else text
    return Rule(kind=kind, look=look, pattern=compiled, group=compiled.groupindex.get("value", 0))


def _options() -> Any:
    options = re2.Options()
    options.log_errors, options.max_mem = False, 64 * 2**20
    return options
