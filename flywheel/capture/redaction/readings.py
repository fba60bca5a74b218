"""Readings: a text as it reads once its characters are no longer spelt out, packed, coloured, reshaped or invisible."""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

import msgspec
import re2

# Signs of other shapes, spaces and hyphens of other widths, digits of other scripts: what each of them reads as.
_RANGES = ((0xFF01, 0xFF5E), (0x1D400, 0x1D7FF), (0xFE50, 0xFE6B), (0x2000, 0x200A))
_DIGITS = (0x660, 0x6F0, 0x966)
SHAPES = {chr(c): unicodedata.normalize("NFKC", chr(c)) for low, high in _RANGES for c in range(low, high + 1)}
SHAPES |= {chr(zero + digit): str(digit) for zero in _DIGITS for digit in range(10)}
SHAPES |= dict.fromkeys("\u00a0\u202f\u205f\u3000", " ") | dict.fromkeys("\u2010\u2011\u2012\u2212", "-")

# All of them are patterns of RE2 too.
UNSEEN = (
    r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f"
    "\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
COLOUR = r"(?:\x1b|\\{1,4}(?:x1[bB]|u001[bB]|033|e))\[[0-9;]{0,20}[A-Za-z]"
SHAPED = (
    "[\u00a0\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\u2000-\u200a\u2010-\u2012\u202f\u205f\u2212\u3000"
    "\ufe50-\ufe6b\uff01-\uff5e\U0001d400-\U0001d7ff]"
)
ENTITY = r"&(?:amp;){0,4}(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|commat|period|nbsp|lowbar|dash|hyphen|equals|colon|plus);"
SPELT = r"(?:%(?:25){0,4}|\\{1,4}(?:x|u00))[2-7][0-9A-Fa-f]"
ESCAPED = r"\\{1,4}[_@.*+()!#~-]"  # in Markdown, and in patterns
JOINED = r"[A-Za-z0-9]\+[0-9]"  # in queries of addresses
PACKED = r"[A-Za-z0-9+/]{24,}={0,2}"
HIDING = "|".join((UNSEEN, COLOUR, SHAPED, ENTITY, SPELT, ESCAPED, JOINED, PACKED))

# Apart from the rules: together they would have too many states.
_HIDING = re2.Set.SearchSet()
_HIDING.Add(HIDING)
_HIDING.Compile()

_MARK = re.compile(
    rf"(?P<unseen>{UNSEEN})|(?P<colour>{COLOUR})|(?P<shaped>{SHAPED})|(?P<entity>{ENTITY})|(?P<spelt>{SPELT})"
    rf"|(?P<escaped>{ESCAPED})|(?P<joined>(?<=[A-Za-z0-9])\+(?=[0-9]))"
)
_COLOUR = re.compile(COLOUR)
# Not the parts of a JSON Web Token.
_PACKED = re.compile(rf"(?<![A-Za-z0-9+/=_.-])(?P<packed>{PACKED})(?![A-Za-z0-9+/=_-]|\.[A-Za-z0-9_-])")
# What is packed and no text, as pictures are: so much of it costs seconds to look through.
_BLOB = re.compile(r"(?<![A-Za-z0-9+/])(?P<blob>[A-Za-z0-9+/]{4096,}+={0,2})")
_LINES = dict.fromkeys(b"\n\r\t", " ")


class Reading(msgspec.Struct, frozen=True):
    """What a text reads as. Its pieces stand there as they are or for a mark: where each begins, here and there."""

    text: str
    here: list[int]
    there: list[int]
    as_is: list[bool]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the text that was read of what stands from `start` to `end` here."""
        first, last = bisect_right(self.here, start) - 1, bisect_right(self.here, end - 1) - 1
        begin = self.there[first] + (start - self.here[first] if self.as_is[first] else 0)
        if self.as_is[last]:
            return begin, self.there[last] + end - self.here[last]
        return begin, self.there[last + 1]


def readings(text: str) -> Iterator[Reading]:
    """Readings of a text that differ from it: one of its characters (two where it is coloured, for a colour may part
    words or letters), and one of what is packed in it."""
    if not _HIDING.Match(text):
        return
    ways = [(_MARK, ""), (_PACKED, "")]
    if _COLOUR.search(text):
        ways.append((_MARK, " "))
    for marks, colour in ways:
        if reading := _read(text, marks, colour):
            yield reading


def without_blobs(text: str) -> Reading | None:
    """A text without the long runs of base64 in which there is no text, where it has any."""
    return _read(text, _BLOB, "") if len(text) >= 4096 else None


def plain(text: str) -> str:
    """A value as it reads."""
    reading = _read(text, _MARK, "")
    return reading.text if reading else text


def _read(text: str, marks: re.Pattern[str], colour: str) -> Reading | None:
    shown: list[str] = []
    here, there, as_is = [], [], []
    at = length = 0

    def piece(what: str, place: int, same: bool) -> None:
        nonlocal length
        here.append(length)
        there.append(place)
        as_is.append(same)
        shown.append(what)
        length += len(what)

    for mark in marks.finditer(text):
        what = colour if mark.lastgroup == "colour" else _shown(mark)
        if what is None:
            continue
        piece(text[at : mark.start()], at, True)
        piece(what, mark.start(), False)
        at = mark.end()
    if not here:
        return None
    piece(text[at:], at, True)
    return Reading("".join(shown), here, there, as_is)


def _shown(mark: re.Match[str]) -> str | None:
    """What a mark reads as; None where it is none."""
    said = mark.group()
    match mark.lastgroup:
        case "shaped":
            return SHAPES.get(said)
        case "entity":
            return html.unescape("&" + said[1:].replace("amp;", ""))
        case "spelt":
            return chr(int(said[-2:], 16))
        case "escaped":
            return said[-1]
        case "joined":
            return " "
        case "packed":
            return _unpacked(said)
        case "blob":
            return "…" if _unpacked(said) is None else None
        case _:
            return ""


def _unpacked(packed: str) -> str | None:
    """The text that base64 holds, where it is text."""
    packed = packed.rstrip("=")
    try:
        text = base64.b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except ValueError:
        return None
    return text if text.translate(_LINES).isprintable() else None
