"""Personal data: addresses and numbers of people, checked by python-stdnum and libphonenumber."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module

from flywheel.capture.redaction.rules import END, NUMBER, QUOTE, START, Rule

# Issuer prefixes of ISO/IEC 7812: Visa, Mastercard, American Express, Discover, Diners Club, JCB.
ISSUERS = re.compile(
    r"4|5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|3[47]|6011|65|64[4-9]|30[0-5]|3[689]|35(?:2[89]|[3-8])"
)

# Numbers of people, a country each: kind, module of python-stdnum that checks it, shape, and the word that must stand
# before it where digits alone prove too little (a tenth or more of all numbers of that shape hold).
NUMBERS = (
    ("SSN", "us.ssn", r"[0-8]\d{2}-\d{2}-\d{4}", None),
    ("SSN", "us.ssn", r"[0-8]\d{2} ?\d{2} ?\d{4}", r"ssn|social.?security"),
    ("US_ITIN", "us.itin", r"9\d{2}-[5-9]\d-\d{4}", None),
    ("US_ITIN", "us.itin", r"9\d{2} ?[5-9]\d ?\d{4}", r"itin|taxpayer"),
    ("CA_SIN", "ca.sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", r"(?<![a-z])sin(?![a-z])|social.?insurance"),
    ("GB_NHS", "gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", r"nhs"),
    ("DE_IDNR", "de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", r"steuer|idnr|tax.?id"),
    ("AT_SVNR", "at.vnr", r"\d{4} ?\d{6}", r"svnr|versicherung"),
    ("CH_AHV", "ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}", None),
    ("FR_NIR", "fr.nir", r"[12](?: ?\d{2}){2} ?(?:\d{2}|2[AB])(?: ?\d{3}){2} ?\d{2}", r"s[ée]cu|\bnir\b|insee"),
    ("BE_NN", "be.nn", r"\d{2}\.?\d{2}\.?\d{2}-?\d{3}\.?\d{2}", r"rijksregister|registre|national|niss|insz"),
    ("NL_BSN", "nl.bsn", r"\d{4}\.?\d{2}\.?\d{3}", r"bsn|burgerservice|sofi"),
    ("IE_PPS", "ie.pps", r"\d{7}[A-W][A-IW]?", r"(?<![a-z])ppsn?(?![a-z])|personal public"),
    ("ES_NIF", "es.nif", r"[XYZ\d]\d{7}-?[A-Z]", r"(?<![a-z])(?:dni|nif|nie)(?![a-z])|documento|identidad"),
    ("PT_CC", "pt.cc", r"\d{8} ?\d ?[A-Z0-9]{2}\d", r"cidad[ãa]o"),
    ("IT_CODICE_FISCALE", "it.codicefiscale", r"[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", None),
    ("GR_AMKA", "gr.amka", r"\d{11}", r"amka|αμκα"),
    ("PL_PESEL", "pl.pesel", r"\d{11}", r"pesel"),
    ("CZ_RC", "cz.rc", r"\d{6}/?\d{3,4}", r"rodn"),
    ("RO_CNP", "ro.cnp", r"\d{13}", r"(?<![a-z])cnp(?![a-z])"),
    ("BG_EGN", "bg.egn", r"\d{10}", r"(?<![a-z])egn(?![a-z])|егн"),
    ("HR_OIB", "hr.oib", r"\d{11}", r"(?<![a-z])oib(?![a-z])"),
    ("EE_IK", "ee.ik", r"\d{11}", r"isikukood|asmens kodas"),
    ("FI_HETU", "fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Y]", None),
    ("SE_PERSONNUMMER", "se.personnummer", r"(?:19|20)?\d{6}[-+]?\d{4}", r"personn|samordning"),
    ("NO_FODSELSNUMMER", "no.fodselsnummer", r"\d{6} ?\d{5}", r"f[øo]dsels|personnummer"),
    ("DK_CPR", "dk.cpr", r"\d{6}-?\d{4}", r"cpr|personnummer"),
    ("TR_KIMLIK", "tr.tckimlik", r"\d{11}", r"kimlik|tckn"),
    ("IL_ID", "il.idnr", r"\d{9}", r"zehut|ת.?ז"),
    ("ZA_ID", "za.idnr", r"\d{13}", r"(?<![a-z])(?:rsa|sa|south african) id|identity (?:no|number)"),
    ("IN_AADHAAR", "in_.aadhaar", r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", r"aadh?aar|uidai"),
    ("IN_PAN", "in_.pan", r"[A-Z]{3}[ABCFGHJKLPT][A-Z]\d{4}[A-Z]", r"(?<![a-z])pan(?![a-z])|permanent account"),
    ("CN_RIC", "cn.ric", r"[1-9]\d{5}(?:18|19|20)\d{9}[0-9X]", None),
    ("KR_RRN", "kr.rrn", r"\d{6}-\d{7}", None),
    ("TH_PIN", "th.pin", r"\d-\d{4}-\d{5}-\d{2}-\d", None),
    ("AU_TFN", "au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", r"(?<![a-z])tfn(?![a-z])|tax file"),
    ("BR_CPF", "br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", None),
    ("BR_CPF", "br.cpf", r"\d{11}", r"(?<![a-z])cpf(?![a-z])"),
    ("CL_RUT", "cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[0-9Kk]", None),
    ("MX_CURP", "mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", None),
    ("IMEI", "imei", r"\d{2}-?\d{6}-?\d{6}-?\d", r"imei"),
)  # fmt: skip

PHONE_SAID = r"(?:phone|mobile|cell|tel(?:ephone|efon[oe]?)?|t[ée]l[ée]fono|fax|whatsapp)"
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IN", "BR", "AU", "JP", "CN", "NL", "PL", "MX", "ZA", "KR")


def _stdnum(name: str) -> Callable[[re.Match[str]], bool]:
    def holds(match: re.Match[str]) -> bool:
        return import_module(f"stdnum.{name}").is_valid(match.group())

    return holds


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match.group())
    return 13 <= len(digits) <= 19 and bool(ISSUERS.match(digits)) and import_module("stdnum.luhn").is_valid(digits)


def _is_number_of(region: str | None, text: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _is_international(match: re.Match[str]) -> bool:
    return _is_number_of(None, match.group())


def _is_national(match: re.Match[str]) -> bool:
    return any(_is_number_of(region, match["value"]) for region in REGIONS)


def _is_public(match: re.Match[str]) -> bool:
    try:
        return ipaddress.ip_address(match.group()).is_global
    except ValueError:
        return False


@cache
def rules() -> tuple[Rule, ...]:
    """All rules for personal data, the most particular first."""
    numbers = [
        Rule(
            kind=kind,
            # The word, where one is asked for: digits are in most texts.
            look=rf"(?i){_re2(near)}" if near else _re2(shape),
            pattern=re.compile(NUMBER + shape + END, re.A),
            near=re.compile(f"(?i){near}") if near else None,
            valid=_stdnum(module),
        )
        for kind, module, shape, near in NUMBERS
    ]
    return (*ADDRESSES, *numbers, *ACCOUNTS, *PHONES)


def _re2(pattern: str) -> str:
    """A pattern without its look-arounds: what is left is true of all that the pattern matches."""
    return re.sub(r"\(\?<?[!=](?:\[[^]]*\]|[^][()])*\)", "", pattern)


ADDRESSES = (
    Rule(
        kind="EMAIL",
        look="@|%40",
        # Not `git@`, the user whom everybody is, nor the units of systemd.
        pattern=re.compile(
            r"(?<![\w.%+-])(?!git@)[\w.%+-][\w.%+'-]{0,63}(?:@|%40)(?:[\w-]{1,63}\.){1,8}"
            r"(?!service|socket|target|timer|mount|slice|device)[^\W\d_]{2,24}(?![\w-])"
        ),
    ),
    Rule(
        kind="IP",
        look=r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        pattern=re.compile(r"(?<![\w.+-])(?<!/)\d{1,3}(?:\.\d{1,3}){3}(?![\w-])(?!\.\d)", re.A),
        valid=_is_public,
    ),
    Rule(  # global unicast, 2000::/3
        kind="IP",
        look="[23][0-9a-fA-F]{3}:",
        pattern=re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{0,4}(?![\w:])"),
        valid=_is_public,
    ),
    Rule(
        kind="MAC",
        look="[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]",
        pattern=re.compile(
            r"(?<![\w:-])(?!(?:00[:-]){5}00|(?:ff[:-]){5}ff)[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])"
        ),
    ),
    Rule(
        kind="CRYPTO",
        look="[13][1-9A-HJ-NP-Za-km-z]{25}|bc1[a-z0-9]{20}",
        pattern=re.compile(START + r"(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[a-z0-9]{20,71})(?![A-Za-z0-9])"),
        valid=_stdnum("bitcoin"),
    ),
    Rule(kind="CRYPTO", look="0x[0-9a-fA-F]{40}", pattern=re.compile(START + r"0x[0-9a-fA-F]{40}(?![0-9a-zA-Z])")),
)
ACCOUNTS = (
    Rule(
        kind="IBAN",
        look="[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}",
        pattern=re.compile(START + r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"),
        valid=_stdnum("iban"),
    ),
    Rule(
        kind="CARD",
        look="[0-9][0-9 -]{12}",
        pattern=re.compile(
            NUMBER + r"[2-6](?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5})" + END
        ),
        valid=_is_card,
    ),
    Rule(  # HM Revenue and Customs, NIM39110
        kind="GB_NINO",
        look="[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        pattern=re.compile(
            START + r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![\w-])"
        ),
    ),
    Rule(  # Medicare Beneficiary Identifier, CMS
        kind="US_MBI",
        look="[1-9][A-Z][0-9A-Z][0-9]-?[A-Z][0-9A-Z][0-9]-?[A-Z]{2}[0-9]{2}",
        pattern=re.compile(
            r"(?<![\w-])[1-9][AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?[AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?"
            r"[AC-HJKMNP-RT-Y]{2}\d{2}(?![\w-])"
        ),
    ),
    Rule(
        kind="PASSPORT",
        look="(?i)passport",
        group="value",
        pattern=re.compile(
            rf"(?i)passport(?:[ _-]?(?:no|num|number|nr|id|#))?\.?{QUOTE}\s*(?:[:=#]|is)?\s*{QUOTE}"
            r"(?P<value>[A-Z]{0,2}\d{6,9}[A-Z]?)(?![\w-])"
        ),
    ),
    Rule(
        kind="DRIVER_LICENSE",
        look="(?i)licen[cs]e|licence|dl.?n",
        group="value",
        pattern=re.compile(
            rf"(?i)driv(?:er|ing)(?:[’']?s)?[ _-]licen[cs]e(?:[ _-]?(?:no|num|number|nr|id|#))?\.?{QUOTE}"
            rf"\s*(?:[:=#]|is)?\s*{QUOTE}"
            r"(?P<value>[A-Z]{0,5}\d{5,13}[A-Z0-9]{0,5})(?![\w-])"
        ),
    ),
)
PHONES = (
    Rule(  # North American, with its separators; numbers that are nobody's (555) too
        kind="PHONE",
        look=r"[2-9][0-9]{2}\)? ?[.-]?[2-9][0-9]{2}[ .-][0-9]{4}",
        pattern=re.compile(
            NUMBER + r"(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([.-]))[2-9]\d{2}(?(1)\1|[ .-])\d{4}"
            r"(?: ?(?:x|ext\.?) ?\d{1,6})?(?!\w|-\d)"
        ),
    ),
    Rule(  # international, E.164 with or without separators
        kind="PHONE",
        look=r"\+[1-9]",
        pattern=re.compile(r"(?<![\w+])\+[1-9](?:[ .()/-]{0,2}\d){6,14}(?![\w-])", re.A),
        valid=_is_international,
    ),
    Rule(  # national, where it is called one
        kind="PHONE",
        look=rf"(?i){PHONE_SAID}",
        group="value",
        pattern=re.compile(
            rf"(?i){PHONE_SAID}(?:[ _-]?(?:no|num|number|nr|#))?\.?{QUOTE}\s*(?:[:=#]|is)?\s*{QUOTE}"
            r"(?P<value>\(?\d(?:[ .()/-]{0,2}\d){8,13})(?![\w-])"
        ),
        valid=_is_national,
    ),
)
