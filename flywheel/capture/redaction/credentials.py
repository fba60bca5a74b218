"""Credentials: keys, tokens and passwords, by the detectors of detect-secrets and the shapes that vendors publish."""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache, partial
from importlib import import_module
from typing import Any

from flywheel.capture.redaction.rules import QUOTE, START, Rule

# The detectors of detect-secrets: kind, module, class, and a look. Those of `ASSIGNED` find a value by the name that
# it is assigned to, and have it as a group of their patterns. Left out are those that take quadratic time (npm,
# openai), find everyday words (keyword, high entropy), or no more than a beginning (jwt, private_key).
DETECTORS = (
    ("ARTIFACTORY_TOKEN", "artifactory", "ArtifactoryDetector", "AKC[a-zA-Z0-9]{10}|AP[0-9A-F][a-zA-Z0-9]{8}"),
    ("AWS_KEY", "aws", "AWSKeyDetector", "A3T|ABIA|ACCA|AKIA|ASIA"),
    ("AZURE_KEY", "azure_storage_key", "AzureStorageKeyDetector", "AccountKey="),
    ("DISCORD_TOKEN", "discord", "DiscordBotTokenDetector", r"[MNO][\w-]{23,25}\.[\w-]{6}\."),
    ("GITHUB_TOKEN", "github_token", "GitHubTokenDetector", "gh[opusr]_"),
    ("GITLAB_TOKEN", "gitlab_token", "GitLabTokenDetector", "gl[a-z]{2,5}-|GR1348941"),
    ("MAILCHIMP_KEY", "mailchimp", "MailchimpDetector", "[0-9a-z]{32}-us[0-9]"),
    ("PYPI_TOKEN", "pypi_token", "PypiTokenDetector", "pypi-AgE"),
    ("SENDGRID_KEY", "sendgrid", "SendGridDetector", r"SG\."),
    ("SLACK_TOKEN", "slack", "SlackDetector", r"(?i)xox[a-z]-|hooks\.slack\.com"),
    ("SQUARE_KEY", "square_oauth", "SquareOAuthDetector", "sq0csp-"),
    ("STRIPE_KEY", "stripe", "StripeDetector", "[rs]k_live_"),
    ("TELEGRAM_TOKEN", "telegram_token", "TelegramBotTokenDetector", "[0-9]{8}:[0-9A-Za-z_-]{35}"),
    ("TWILIO_KEY", "twilio", "TwilioKeyDetector", "(?:AC|SK)[a-z0-9]{32}"),
    ("CLOUDANT_KEY", "cloudant", "CloudantDetector", "(?i)cl(?:oudant|ou)?[_-]?(?:api)?[_-]?(?:key|p|token)|cloudant"),
    ("IBM_KEY", "ibm_cloud_iam", "IbmCloudIamDetector", r"(?i)(?:key|pwd|password|pass|token).{0,9}[\w-]{44}"),
    ("IBM_KEY", "ibm_cos_hmac", "IbmCosHmacDetector", r"(?i)secret[_-]?(?:access)?[_-]?key.{0,9}[0-9a-f]{48}"),
    ("SOFTLAYER_KEY", "softlayer", "SoftlayerDetector", r"(?i)softlayer|sl[_-]?(?:api)?[_-]?(?:key|p|token)"),
)  # fmt: skip
ASSIGNED = {"CLOUDANT_KEY", "IBM_KEY", "SOFTLAYER_KEY"}

# Shapes of vendors that detect-secrets has not, or has in fewer forms: kind, beginning, rest.
SHAPES = (
    ("ANTHROPIC_KEY", "sk-ant-", r"[\w-]{20,}"),
    ("OPENAI_KEY", "sk-(?:proj|svcacct|admin)-", r"[\w-]{20,}"),
    ("OPENAI_KEY", "sk-", r"[\w-]{0,170}T3BlbkFJ[\w-]{10,}"),
    ("AWS_KEY", "AKIA|ASIA", r"[0-9A-Z]{16}"),
    ("GITHUB_TOKEN", "gh[opusr]_|github_pat_", r"[A-Za-z0-9_]{22,}"),
    ("GITLAB_TOKEN", "glpat-", r"[A-Za-z0-9_.-]{20,}"),
    ("GOOGLE_KEY", r"AIza|ya29\.|GOCSPX-", r"[\w-]{20,}"),
    ("HUGGINGFACE_TOKEN", "hf_", r"[A-Za-z0-9]{30,}"),
    ("NPM_TOKEN", "npm_", r"[A-Za-z0-9]{36,}"),
    ("PYPI_TOKEN", "pypi-", r"[\w-]{50,}"),
    ("SENDGRID_KEY", r"SG\.", r"[\w-]{16,}\.[\w-]{16,}"),
    ("SLACK_TOKEN", "xox[abceoprsd]-|xapp-", r"[A-Za-z0-9-]{10,}"),
    ("STRIPE_KEY", "[rs]k_(?:live|test)_|whsec_", r"[A-Za-z0-9]{16,}"),
    # Generic: xAI, Groq, Perplexity, Replicate, DigitalOcean, Shopify, Databricks, Linear, Notion, ours.
    ("API_KEY", "(?:xai|pplx)-|(?:gsk|r8|do[por]_v1|shp[a-z]{2}|lin_api|ntn|fw)_|dapi", r"(?=\D{0,60}\d)[\w-]{30,}"),
    ("API_KEY", "sk-", r"(?=[a-zA-Z_-]{0,60}\d)[\w-]{20,}"),
)  # fmt: skip

NAMES = (
    r"(?:password|passwd|pwd|passphrase|passcode|(?:api|access|secret|private|auth(?:orization)?|signing|encryption|account)"
    r"[ _-]?(?:key|token)|secret[ _-]?access[ _-]?key|client[ _-]?secret|refresh[ _-]?token)"
)
# Everyday words: tokens of a text, the secret of a good cake.
WORDS = r"(?<![a-z])(?:token|secret)"
# Keys of JSON whose values are secrets, whatever they look like; and those whose are, when a machine made them.
NAMED = re.compile(rf"(?i).*(?:{NAMES}|authorization)\Z")
PERHAPS = re.compile(rf"(?i).*{WORDS}\Z")
# Words that stand where a secret would, and are none.
NO_SECRET = re.compile(
    r"(?i)(?:none|null|nil|true|false|string|str|int|text|required|optional|hidden|redacted|empty|example|changeme"
    r"|undefined|unknown|n/a|\W*|[x*.]+)\Z"
)
LOOK = r"(?i)passw|pwd|passphrase|passcode|key|token|secret|authorization"


def is_named(key: str, value: str) -> bool:
    """Whether the value of a key of JSON is a secret by its name."""
    named = bool(NAMED.match(key)) or (bool(PERHAPS.match(key)) and _is_made(value))
    return named and not NO_SECRET.match(value)


def _is_made(value: str) -> bool:
    return len(value) >= 12 and any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


def _is_secret(match: re.Match[str]) -> bool:
    """In prose ("password: ...") a value is taken for a secret only when it does not look like a word or a code.

    After a bare "token" or "secret", which are everyday words, it must look made by a machine.
    """
    value = match["value"].strip(".,!?")
    if NO_SECRET.match(value):
        return False
    if match["name"].lower() in ("token", "secret"):
        return _is_made(value)
    return match["sign"] == "=" or not value.isalpha()


def _is_basic(match: re.Match[str]) -> bool:
    """RFC 7617: the base64 of a user, a colon and a password."""
    value = match["value"]
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False


def _has_digit_and_letter(match: re.Match[str]) -> bool:
    value = match["value"]
    return any(c.isdigit() for c in value) and any(c.islower() for c in value)


PLAIN = (
    Rule(
        kind="PRIVATE_KEY",
        look="PRIVATE KEY|PuTTY-User-Key-File-",
        pattern=re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
            r"|PuTTY-User-Key-File-\d:.*?(?:Private-MAC: [0-9a-f]+|\Z)",
            re.S,
        ),
    ),
    Rule(  # JSON Web Tokens, RFC 7519, signed (three parts) and encrypted (five)
        kind="JWT", look="eyJ", pattern=re.compile(r"(?:(?<![\w-])|(?<=\\[nrt]))eyJ[\w-]{8,}+(?:\.[\w-]*){2,4}", re.A)
    ),
)
SPOKEN = (
    Rule(  # RFC 6750
        kind="TOKEN",
        look="(?i)bearer",
        group="value",
        pattern=re.compile(r"(?i)\bbearer[ :]\s*[\"']?(?P<value>(?=[^\s\d]{0,200}\d)[A-Za-z0-9._~+/-]{16,}=*)"),
    ),
    Rule(
        kind="AWS_SECRET",
        look=r"(?i)secret[ _-]?(?:access)?[ _-]?key",
        group="value",
        pattern=re.compile(
            rf"(?i)secret[ _-]?(?:access[ _-]?)?key{QUOTE}\s*[:=]\s*{QUOTE}"
            r"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"
        ),
    ),
    Rule(
        kind="BASIC_AUTH",
        look="(?i)basic ",
        group="value",
        pattern=re.compile(r"(?i)\bbasic\s+(?P<value>[A-Za-z0-9+/]{8,}={0,2})(?![\w+/])"),
        valid=_is_basic,
    ),
    Rule(
        kind="NPM_TOKEN",
        look="_authToken",
        group="value",
        pattern=re.compile(rf"_authToken\s*=\s*{QUOTE}(?P<value>[^\s\"'$<{{]{{8,}})"),
    ),
    Rule(
        kind="PASSWORD",
        look="://[^/@]*@",
        group="value",
        pattern=re.compile(r"://[^\s/:@]{0,64}:(?P<value>[^\s/:@]{1,128})@"),
    ),
    Rule(
        kind="PASSWORD",
        look=LOOK,
        group="value",
        pattern=re.compile(
            rf"(?i)(?<![a-z])(?P<name>{NAMES}|{WORDS}){QUOTE}\s*(?P<sign>:?=|:|\bis\b:?)\s*{QUOTE}"
            r"(?![\w.]+[(\[])(?P<value>[^\s\"'<>$({\[,;&\\]{4,})"
        ),
        valid=_is_secret,
    ),
    Rule(  # an option of a command
        kind="PASSWORD",
        look=r"(?i)--[a-z-]*(?:passw|passphrase|api-key|token|secret)",
        group="value",
        pattern=re.compile(
            r"(?i)(?<!\S)--(?:[a-z]+-)*(?:password|passphrase|api-key|token|secret)[ =][\"']?"
            r"(?P<value>(?=[^\s\"']*\d)[^\s\"'<>$({\[,;&\\-][^\s\"'<>$({\[,;&\\]{7,})"
        ),
    ),
)


@cache
def rules() -> tuple[Rule, ...]:
    """All rules for credentials, the most particular first."""
    shaped = [
        Rule(kind=kind, look=lead, pattern=re.compile(f"{START}(?:{lead}){rest}", re.A)) for kind, lead, rest in SHAPES
    ]
    return (*PLAIN, *_detectors(), *shaped, *SPOKEN)


def _detectors() -> list[Rule]:
    found: list[Rule] = []
    for kind, module, name, look in DETECTORS:
        detector: Any = getattr(import_module(f"detect_secrets.plugins.{module}"), name)
        for pattern in detector.denylist:
            rule = partial(Rule, kind=kind, look=look)
            if kind in ASSIGNED or (kind == "AWS_KEY" and pattern.groups):
                if kind == "AWS_KEY":
                    rule = partial(Rule, kind="AWS_SECRET", look="(?i)aws.{0,60}['\"][0-9a-zA-Z/+]{40}")
                found.append(rule(pattern=pattern, group=1))
            elif kind == "ARTIFACTORY_TOKEN":
                # Its patterns hold what stands before and after; words in capitals are shaped alike.
                bare = pattern.pattern.removeprefix(r'(?:\s|=|:|"|^)').removesuffix(r'(?:\s|"|$)')
                bare = re.compile(rf"{START}(?P<value>{bare})(?![\w-])")
                found.append(rule(pattern=bare, group="value", valid=_has_digit_and_letter))
            elif kind == "AZURE_KEY":
                found.append(rule(pattern=re.compile(r"AccountKey=(?P<value>[a-zA-Z0-9+/=]{80,})"), group="value"))
            else:
                # To the token's end, where vendors have made them longer since. Telegram's follow `bot` in addresses.
                start = rf"(?:{START}|(?<=/bot))" if kind == "TELEGRAM_TOKEN" else START
                whole = re.compile(rf"{start}(?:{pattern.pattern})[\w-]*", pattern.flags)
                found.append(rule(pattern=whole))
    return found
