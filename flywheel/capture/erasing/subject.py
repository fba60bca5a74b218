"""A person as text: the pattern that finds a name or an address in every form in which records may hold it."""

from __future__ import annotations

import re
import unicodedata

from flywheel.schema import FlywheelError

# A shorter text would be found in records of nearly anybody.
SHORTEST = 3

# What parts words: spaces, also as JSON and URLs write them.
_GAP = r"(?:\s|\\+[nrt]|%20|\+)+"

# A text is found as whole words: `Ann` is not in `planning`, nor `customer-12` in `customer-123`. Before it may stand
# what JSON or a URL writes with letters.
_BEFORE = r"(^|[\W_]|\\+[nrtbf]|\\+u[0-9a-f]{4}|%[0-9a-f]{2})"
_AFTER = r"($|[\W_])"


def pattern(subjects: tuple[str, ...]) -> str:
    """A regular expression, for Python and DuckDB alike, that finds any of the texts whatever their case.

    Letters with accents are found composed and decomposed, and as JSON (`\\u00e9`) and URLs (`%C3%A9`) write them;
    a space stands for any run of spaces. Its two groups are what stands before and after the text.

    Raises:
        FlywheelError: when a text has fewer than `SHORTEST` letters and digits, or there is none.
    """
    for subject in subjects:
        if sum(map(str.isalnum, subject)) < SHORTEST:
            raise FlywheelError(
                f"{subject!r} would be found in records of nearly anybody: write at least {SHORTEST} letters or digits"
            )
    texts = "|".join(_words(subject) for subject in subjects)
    return f"(?i){_BEFORE}(?:{texts}){_AFTER}"


def _words(subject: str) -> str:
    words = unicodedata.normalize("NFC", subject).split()
    return _GAP.join("".join(map(_letter, word)) for word in words)


def _letter(letter: str) -> str:
    forms = [re.escape(letter)]
    if not letter.isalnum() or not letter.isascii():
        forms.append("".join(f"%{byte:02x}" for byte in letter.encode()))
    if letter in '"\\/':
        forms[0] = rf"\\*{forms[0]}"
    if not letter.isascii():
        for other in {letter, letter.lower(), letter.upper()}:
            # The case of an escaped letter is hidden in its number.
            forms += [re.escape(form) for form in (other, unicodedata.normalize("NFD", other)) if form != letter]
            units = other.encode("utf-16-be")
            forms.append("".join(rf"\\+u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)))
    return forms[0] if len(forms) == 1 else f"(?:{'|'.join(dict.fromkeys(sorted(forms)))})"
