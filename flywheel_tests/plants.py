"""Plants: secrets and personal data of many kinds, made up by seed, and the proof that none of them lies on disk."""

from __future__ import annotations

import base64
import gzip
import ipaddress
import json
import random
import string
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers
import pyarrow as pa
import pyarrow.parquet as pq
import re2

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
ALNUM, HEX = string.ascii_letters + string.digits, "0123456789abcdef"
# What one character of a shape stands for; all others stand for themselves.
SIGNS = {"9": DIGITS, "A": UPPER, "h": HEX, "x": ALNUM, "l": LOWER, "z": LOWER + DIGITS, "Z": UPPER + DIGITS}


class Plant(NamedTuple):
    """A value that must not be stored, its kind, and a sentence that says it as people and programs do."""

    kind: str
    value: str
    text: str


Make = Callable[[random.Random], str]


def shaped(shape: str, lead: str = "") -> Make:
    """Characters by `SIGNS`, after a lead that is taken as it is."""
    return lambda r: lead + "".join(r.choice(SIGNS.get(sign, sign)) for sign in shape)


def valid(module: str, shape: str, *, valid: str = "is_valid") -> Make:
    """A shape whose check digits hold, by the published algorithm as python-stdnum has it."""

    def make(r: random.Random) -> str:
        holds = getattr(import_module(f"stdnum.{module}"), valid)
        return next(value for _ in iter(int, 1) if holds(value := shaped(shape)(r)))

    return make


def _dated(module: str, build: Callable[[random.Random, str], str]) -> Make:
    """A number that begins with a date of birth (YYMMDD) and whose check digits hold."""

    def make(r: random.Random) -> str:
        holds = import_module(f"stdnum.{module}").is_valid
        while True:
            born = f"{r.randrange(50, 99):02}{r.randrange(1, 13):02}{r.randrange(1, 29):02}"
            if holds(value := build(r, born)):
                return value

    return make


def _card(r: random.Random) -> str:
    digits = valid("luhn", r.choice(["4999999999999999", "5299999999999999", "349999999999999"]))(r)
    return " ".join(digits[i : i + 4] for i in range(0, 16, 4)) if len(digits) == 16 and r.random() < 0.5 else digits


def _phone(r: random.Random) -> str:
    if r.random() < 0.5:
        return shaped(r.choice(["(299) 299-9999", "299-299-9999", "+1 299-299-9999"]))(r).replace("(1", "(2")
    while True:
        number = phonenumbers.example_number(r.choice(["GB", "DE", "FR", "IN", "BR", "JP", "AU", "ES", "IT"]))
        digits = str(number.national_number)
        number.national_number = int(digits[:-5] + shaped("99999")(r))
        if phonenumbers.is_valid_number(number):
            return phonenumbers.format_number(number, r.choice([0, 1]))  # E.164, international


def _nanp(make: Make) -> Make:
    """Area codes and exchanges begin with 2 to 9."""

    def fixed(r: random.Random) -> str:
        while True:
            value = make(r)
            digits = "".join(c for c in value if c.isdigit())[-10:]
            if (value.startswith("+") and not value.startswith("+1 ")) or (digits[0] > "1" and digits[3] > "1"):
                return value

    return fixed


def _jwt(r: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part({'sub': r.randrange(10**9)})}.{shaped('x' * 43)(r)}"


def _private_key(r: random.Random) -> str:
    name = r.choice(["RSA PRIVATE", "EC PRIVATE", "PRIVATE", "OPENSSH PRIVATE"])
    lines = "\n".join(shaped("x" * 64)(r) for _ in range(4))
    return f"-----BEGIN {name} KEY-----\n{lines}\n-----END {name} KEY-----"


def _bitcoin(r: random.Random) -> str:
    from hashlib import sha256

    from stdnum.bitcoin import _base58_alphabet  # pyright: ignore[reportPrivateUsage]

    body = b"\0" + r.randbytes(20)
    number = int.from_bytes(body + sha256(sha256(body).digest()).digest()[:4], "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _base58_alphabet[digit] + text
    return "1" + text


def _iban(r: random.Random) -> str:
    country, shape = r.choice([("DE", "9" * 18), ("NL", "AAAA9999999999"), ("GB", "AAAA" + "9" * 14)])
    account = shaped(shape)(r)
    moved = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    value = f"{country}{98 - int(moved) % 97:02}{account}"
    return " ".join(value[i : i + 4] for i in range(0, len(value), 4)) if r.random() < 0.5 else value


def _ip(r: random.Random) -> str:
    while True:
        address = ipaddress.IPv4Address(r.randrange(11 << 24, 223 << 24))
        if address.is_global and len(str(address)) > 11:
            return str(address)


def _basic(r: random.Random) -> str:
    return base64.b64encode(f"{shaped('llllll')(r)}:{shaped('x' * 14)(r)}".encode()).decode()


MONTHS = "ABCDEHLMPRST"

# Each kind with what makes a value, and how people and programs say it.
KINDS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "ANTHROPIC_KEY": (shaped("x" * 90 + "AA", "sk-ant-api03-"), ("ANTHROPIC_API_KEY={}", "the key {} is mine")),
    "ARTIFACTORY_TOKEN": (shaped("x" * 60, "AKC"), ("curl -H X-JFrog-Art-Api:{} https://a.example", "token: {}")),
    "AWS_KEY": (shaped("Z" * 16, "AKIA"), ("aws_access_key_id = {}", "I use {} for S3")),
    "AWS_SECRET": (shaped("x" * 40), ("aws_secret_access_key = '{}'", "AWS_SECRET_ACCESS_KEY={}")),
    "AZURE_KEY": (shaped("x" * 86 + "==", ""), ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}",)),
    "DISCORD_TOKEN": (shaped("x" * 23 + ".xxxxxx." + "x" * 27, "M"), ("bot runs as {}", "DISCORD={}")),
    "GITHUB_TOKEN": (shaped("x" * 36, "ghp_"), ("git clone https://{}@github.com/a/b", "GITHUB_TOKEN: {}")),
    "GITLAB_TOKEN": (shaped("x" * 20, "glpat-"), ("PRIVATE-TOKEN: {}", "use {} please")),
    "GOOGLE_KEY": (shaped("x" * 35, "AIza"), ("maps?key={}", "my key is {}")),
    "HUGGINGFACE_TOKEN": (shaped("x" * 34, "hf_"), ("huggingface-cli login --token {}", "HF_TOKEN={}")),
    "JWT": (_jwt, ("cookie jwt {}", "token {} expired")),
    "MAILCHIMP_KEY": (shaped("h" * 32 + "-us12"), ("mailchimp says {}", "MC={}")),
    "NPM_TOKEN": (shaped("x" * 36, "npm_"), ("//registry.example.org/:_authToken={}", "npm token {}")),
    "OPENAI_KEY": (shaped("x" * 20 + "T3BlbkFJ" + "x" * 20, "sk-proj-"), ("OPENAI_API_KEY={}", "with {} it works")),
    "PRIVATE_KEY": (_private_key, ("here is the key:\n{}\nthanks", "{}")),
    "PYPI_TOKEN": (shaped("x" * 80, "pypi-AgEIcHlwaS5vcmc"), ("twine upload -p {}", "password = {}")),
    "SENDGRID_KEY": (shaped("x" * 22 + "." + "x" * 43, "SG."), ("Authorization: Bearer {}", "SENDGRID={}")),
    "SLACK_TOKEN": (shaped("999999999999-999999999999-" + "z" * 24, "xoxb-"), ("slack {}", "SLACK_BOT_TOKEN={}")),
    "SQUARE_KEY": (shaped("x" * 43, "sq0csp-"), ("square secret {}", "{}")),
    "STRIPE_KEY": (shaped("x" * 24, "sk_live_"), ("stripe.api_key = '{}'", "charge with {}")),
    "TELEGRAM_TOKEN": (shaped("999999999:" + "x" * 35), ("https://api.telegram.org/bot{}/getMe", "bot token {}")),
    "TWILIO_KEY": (shaped("h" * 32, "SK"), ("twilio {}", "TWILIO={}")),
    "TOKEN": (shaped("x" * 32), ("Authorization: Bearer {}", "curl -H 'authorization: bearer {}' http://h")),
    "BASIC_AUTH": (_basic, ("Authorization: Basic {}",)),
    "PASSWORD": (
        shaped("llll9999xxxx"),
        ("password={}", "postgres://app:{}@db.local/x", '{{"db_password": "{}"}}', "the password is {}"),
    ),
    "API_KEY": (shaped("x" * 52, "gsk_"), ("GROQ_API_KEY={}", "this is {}")),
    "EMAIL": (shaped("llllll.lllll99@lllllll.org"), ("write to {}", '{{"email": "{}"}}', "Mia <{}>")),
    "PHONE": (_nanp(_phone), ("call {} now", '{{"phone": "{}"}}', "Tel. {}")),
    "CARD": (_card, ("card {}, exp 12/29", '{{"card_number": "{}"}}', "pay with {}.")),
    "IBAN": (_iban, ("transfer to {} please", '{{"iban": "{}"}}')),
    "IP": (_ip, ("login from {} failed", '{{"ip": "{}"}}')),
    "MAC": (shaped("hh:hh:hh:hh:hh:hh"), ("link/ether {} brd", '{{"mac": "{}"}}')),
    "CRYPTO": (_bitcoin, ("send it to {}", "wallet {}")),
    "SSN": (valid("us.ssn", "999-99-9999"), ("my SSN is {}", '{{"ssn": "{}"}}', "{} on file")),
    "US_ITIN": (valid("us.itin", "999-99-9999"), ("ITIN {}", "his itin is {}")),
    "CA_SIN": (valid("ca.sin", "999-999-999"), ("SIN {}", "social insurance number: {}")),
    "GB_NHS": (valid("gb.nhs", "999 999 9999"), ("NHS number {}", "nhs no. {}")),
    "GB_NINO": (
        lambda r: shaped("99 99 99 ", r.choice(["AB", "CE", "JK"]) + " ")(r) + "C",
        ("NINO {}", "insured as {}"),
    ),
    "DE_IDNR": (valid("de.idnr", "99999999999"), ("Steuer-ID {}", "Steueridentifikationsnummer: {}")),
    "FR_NIR": (
        lambda r: (lambda n: f"{n}{97 - int(n) % 97:02}")(shaped("2990575116999".replace("9", "9"))(r)),
        ("sécurité sociale {}", "NIR {}"),
    ),
    "ES_NIF": (valid("es.dni", "99999999A"), ("DNI {}", "mi nif es {}")),
    "IT_CODICE_FISCALE": (
        lambda r: valid(
            "it.codicefiscale", f"{shaped('AAAAAA')(r)}{r.randrange(50, 99)}{r.choice(MONTHS)}1{r.randrange(10)}H501A"
        )(r),
        ("codice fiscale {}", "sono {}"),
    ),
    "PL_PESEL": (_dated("pl.pesel", lambda r, born: born + shaped("99999")(r)), ("PESEL {}", "nr pesel: {}")),
    "FI_HETU": (
        _dated("fi.hetu", lambda r, born: f"{born[4:]}{born[2:4]}{born[:2]}-{shaped('999Z')(r)}"),
        ("hetu {}", "henkilötunnus {}"),
    ),
    "SE_PERSONNUMMER": (
        _dated("se.personnummer", lambda r, born: f"{born}-{shaped('9999')(r)}"),
        ("personnummer {}", "mitt personnr är {}"),
    ),
    "NL_BSN": (valid("nl.bsn", "999999999"), ("BSN {}", "burgerservicenummer: {}")),
    "BR_CPF": (valid("br.cpf", "999.999.999-99"), ("CPF {}", "meu documento {}")),
    "IN_AADHAAR": (valid("in_.aadhaar", "9999 9999 9999"), ("Aadhaar {}", "aadhaar number is {}")),
    "IN_PAN": (valid("in_.pan", "AAAPA9999A"), ("PAN {}", "pan card: {}")),
    "KR_RRN": (_dated("kr.rrn", lambda r, born: f"{born}-{shaped('9999999')(r)}"), ("RRN {}", "id {}")),
    "AU_TFN": (valid("au.tfn", "999 999 999"), ("TFN {}", "tax file number {}")),
    "MX_CURP": (valid("mx.curp", "AAAA999999HDFAAA99"), ("CURP {}", "soy {}")),
}


def plants(seed: int, n: int = 2000) -> list[Plant]:
    """`n` plants, all kinds of `KINDS` in turn, no value twice; the same seed gives the same."""
    r = random.Random(seed)
    found: dict[str, Plant] = {}
    names = sorted(KINDS)
    while len(found) < n:
        kind = names[len(found) % len(names)]
        make, sayings = KINDS[kind]
        value = make(r)
        found.setdefault(value, Plant(kind, value, r.choice(sayings).format(value)))
    return list(found.values())


def assert_nowhere(root: Path, values: Iterable[str]) -> None:
    """No file below `root` holds one of the values: not in its name, its bytes or what they unpack to.

    Columns of Parquet and Lance are read back, gzip is unpacked. Of values of several lines, each long line counts.
    """
    needles = {line for value in values for line in (value.splitlines() if "\n" in value else [value])}
    needles = {needle for needle in needles if len(needle) > 7 and "-----" not in needle}
    options = re2.Options()
    options.max_mem, options.encoding = 2**30, re2.Options.Encoding.LATIN1
    pattern = re2.compile(b"|".join(re2.escape(needle.encode()) for needle in sorted(needles)), options)
    for place, data in _all_bytes(root):
        found = pattern.search(data)
        assert found is None, f"{place} holds {found[0]!r}: {data[max(0, found.start() - 80) : found.end() + 20]!r}"


def _all_bytes(root: Path) -> Iterator[tuple[str, bytes]]:
    assert any(path.is_file() for path in root.rglob("*")), f"{root} holds nothing: this would prove nothing"
    for path in sorted(root.rglob("*")):
        place = str(path.relative_to(root))
        yield f"the name {place}", place.encode()
        if path.suffix == ".lance" and (path / "_versions").is_dir():
            import lance  # a process that has it must not fork, as some tests do

            yield f"{place} (columns)", _unpacked(lance.dataset(str(path)).to_table())
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield place, data
        if path.suffix == ".parquet":
            yield f"{place} (columns)", _unpacked(pq.read_table(path, partitioning=None))
        elif data[:2] == b"\x1f\x8b":
            yield f"{place} (unpacked)", gzip.decompress(data)
        elif data[:1] == b"\x78" and path.suffix in {".z", ".zlib"}:
            yield f"{place} (unpacked)", zlib.decompress(data)


def _unpacked(table: pa.Table) -> bytes:
    """All texts and bytes of a table, nested ones too, one after the other."""
    found: list[bytes] = []
    todo: list[Any] = [column.to_pylist() for column in table.columns]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, str | bytes):
            found.append(value.encode() if isinstance(value, str) else value)
    return b"\n".join(found)
