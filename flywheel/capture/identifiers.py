"""Numbers with a checksum: payment cards and bank accounts, told from ordinary digits."""

from __future__ import annotations

import re

# Issuer prefixes of ISO/IEC 7812: Visa, Mastercard, American Express, Discover, Diners Club, JCB.
ISSUERS = re.compile(
    r"4|5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|3[47]|6011|65|64[4-9]|30[0-5]|3[689]|35(?:2[89]|[3-8])"
)


def is_card(text: str) -> bool:
    """Whether digits (spaces and hyphens apart) are a payment card number: known issuer, length, Luhn checksum."""
    digits = re.sub(r"\D", "", text)
    if not 13 <= len(digits) <= 19 or not ISSUERS.match(digits):
        return False
    doubled = [int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether text (spaces apart) is an International Bank Account Number: ISO 13616, remainder 1 modulo 97."""
    account = text.replace(" ", "")
    if not 15 <= len(account) <= 34:
        return False
    moved = account[4:] + account[:4]
    return moved.isalnum() and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
