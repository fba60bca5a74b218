"""What secrets and personal data look like: one rule a kind, and a prefilter that clean texts do not pass."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from flywheel.capture import identifiers


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of secret: where to look and what to replace.

    A text is searched only when its lower case holds one of `hints`, or, where a rule has none, when it holds a run
    of digits. The group `value` is what is replaced, the whole match where the pattern has no such group. `valid`
    has the last word.
    """

    kind: str
    pattern: re.Pattern[str]
    hints: tuple[str, ...] = ()
    valid: Callable[[re.Match[str]], bool] | None = None


# The published shapes of vendors' keys: a fixed prefix, then enough random characters.
API_KEY = r"""(?x)(?<![A-Za-z0-9])(?:
    sk-[A-Za-z0-9_-]{20,} | (?:AKIA|ASIA)[0-9A-Z]{16} | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{22,}
  | glpat-[A-Za-z0-9_-]{20,} | xox[abeoprs]-[A-Za-z0-9-]{10,} | AIza[0-9A-Za-z_-]{35} | ya29\.[0-9A-Za-z_-]{20,}
  | hf_[A-Za-z0-9]{30,} | npm_[A-Za-z0-9]{36} | pypi-[A-Za-z0-9_-]{50,} | [rs]k_(?:live|test)_[A-Za-z0-9]{16,}
  | gsk_[A-Za-z0-9]{40,} | xai-[A-Za-z0-9]{40,} | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}
)"""
API_KEY_HINTS = (
    "sk-", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "aiza", "ya29.",
    "hf_", "npm_", "pypi-", "sk_", "rk_", "xai-", "sg.",
)  # fmt: skip
NAMES = (
    r"(?:password|passwd|pwd|passphrase|(?:api|access|secret|private|auth)[_-]?(?:key|token)"
    r"|client[_-]?secret|refresh[_-]?token)"
)
NAMED_SECRET = re.compile(rf"(?i)(?:.*[^a-z])?{NAMES}\Z")
# Words that stand where a secret would, and are none.
NO_SECRET = re.compile(r"(?i)none|null|true|false|string|str|text|required|optional|hidden|redacted|\W*|[x*.]+")


def _is_secret(match: re.Match[str]) -> bool:
    """In prose ("password: ...") a value is taken for a secret only when it does not look like a word."""
    value = match["value"]
    return not NO_SECRET.fullmatch(value) and (match["sign"] == "=" or not value.strip(".,!?").isalpha())


DIGIT = r"(?<![\w.+-])"
RULES = (
    Rule(
        kind="PRIVATE_KEY",
        hints=("private key-----",),
        pattern=re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
    ),
    Rule(kind="API_KEY", hints=API_KEY_HINTS, pattern=re.compile(API_KEY)),
    Rule(
        kind="TOKEN",
        hints=("eyj",),
        pattern=re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*", re.A),  # JSON Web Token, RFC 7519
    ),
    Rule(
        kind="TOKEN",
        hints=("bearer",),
        pattern=re.compile(r"(?i)\bbearer\s+(?P<value>(?=[^\s\d]*\d)[A-Za-z0-9._~+/-]{16,}=*)"),  # RFC 6750
    ),
    Rule(kind="PASSWORD", hints=("://",), pattern=re.compile(r"://[^\s/:@]{1,64}:(?P<value>[^\s/:@]{1,128})@")),
    Rule(
        kind="PASSWORD",
        hints=("passw", "pwd", "passphrase", "key", "token", "secret"),
        pattern=re.compile(
            rf"(?i)(?<![a-z]){NAMES}[\"']?\s*(?P<sign>[=:]|\bis\b)\s*[\"']?"
            r"(?![\w.]+[(\[])(?P<value>[^\s\"'<>$({\[,;&]{4,})"
        ),
        valid=_is_secret,
    ),
    Rule(
        kind="EMAIL",
        hints=("@",),
        pattern=re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"),
    ),
    Rule(
        kind="IBAN",
        pattern=re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"),
        valid=lambda match: identifiers.is_iban(match.group()),
    ),
    Rule(
        kind="CARD",
        pattern=re.compile(
            DIGIT + r"[2-6](?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5})(?![\w-])(?!\.\d)"
        ),
        valid=lambda match: identifiers.is_card(match.group()),
    ),
    Rule(
        kind="SSN",
        pattern=re.compile(DIGIT + r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    ),
    Rule(
        kind="PHONE",  # North American, with its separators
        pattern=re.compile(
            r"(?<![\w.+-])(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([.-]))[2-9]\d{2}(?(1)\1|[ .-])\d{4}"
            r"(?: ?(?:x|ext\.?) ?\d{1,6})?(?![\w-])"
        ),
    ),
    Rule(
        kind="PHONE",  # international, E.164 with or without separators
        hints=("+",),
        pattern=re.compile(r"(?<![\w+])\+[1-9](?:[ .()-]{0,2}\d){7,14}(?![\w-])"),
    ),
)

SHORTEST = len("a@bc.de")
HINTS = tuple(sorted({hint for rule in RULES for hint in rule.hints}))
# What the rules without hints need at least: nine digits with few marks between them. The first pattern is quick.
DIGITS = re.compile(r"[0-9][0-9 ().-]{8}")
NINE_DIGITS = re.compile(r"(?:[0-9][ ().-]{0,2}){9}")


def has_digits(text: str) -> bool:
    """Whether a text holds enough digits in a row for a telephone, card or account number."""
    return DIGITS.search(text) is not None and NINE_DIGITS.search(text) is not None


def suspicious(text: str) -> bool:
    """The prefilter: most texts hold nothing that any rule could match, and cost no more than this."""
    if len(text) < SHORTEST:
        return False
    lower = text.lower()
    for hint in HINTS:  # a plain loop: this runs on every text, and a generator takes twice as long
        if hint in lower:
            return True
    return has_digits(text)
