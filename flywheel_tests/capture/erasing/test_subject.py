"""Subjects: a text is found as whole words in every form in which records may hold it, by Python and DuckDB alike."""

import json
import re
import unicodedata
from urllib.parse import quote

import pytest

from flywheel import warehouse
from flywheel.capture.erasing.subject import pattern
from flywheel.schema import FlywheelError


def found(subject: str, text: str) -> bool:
    """Whether both engines find it; they must agree."""
    with warehouse.connect() as connection:
        [(sql,)] = connection.execute("SELECT regexp_matches($t, $p)", {"t": text, "p": pattern((subject,))}).fetchall()
    python = re.search(pattern((subject,)), text) is not None
    assert python == sql
    return python


@pytest.mark.parametrize(
    "text",
    [
        "Jane Doe",
        "I am jane doe.",
        "JANE\n  DOE's order",
        json.dumps({"note": "hello\nJane Doe"}),
        json.dumps(json.dumps({"note": "hello\nJane\tDoe\n"})),
        "https://example.org/?q=Jane+Doe&page=1",
        "https://example.org/?q=Jane%20Doe",
        "from_Jane Doe_to",
    ],
)
def test_a_name_is_found_whatever_its_case_and_spaces(text):
    assert found("Jane Doe", text)


@pytest.mark.parametrize("text", ["Janet Doe", "Jane Doerr", "planejane doe", "Jane", "Jane of Doe"])
def test_another_name_is_not(text):
    assert not found("Jane Doe", text)


@pytest.mark.parametrize(
    "text",
    [
        "josé núñez",
        "JOSÉ NÚÑEZ",
        unicodedata.normalize("NFD", "José Núñez"),
        json.dumps("José Núñez"),
        json.dumps(json.dumps("JOSÉ NÚÑEZ")),
        quote("José Núñez"),
    ],
)
def test_accents_are_found_composed_decomposed_and_escaped(text):
    assert found("José Núñez", text)


def test_addresses_and_quotes():
    assert found("jane.doe@example.org", "mailto:Jane.Doe%40example.org?subject=x")
    assert found("jane.doe@example.org", '{"to": "jane.doe@example.org"}')
    assert not found("jane.doe@example.org", "jane-doe@example.org")
    assert found('Jane "JD" Doe', json.dumps(json.dumps('Jane "JD" Doe')))
    assert found("customer-12", "for customer-12, please") and not found("customer-12", "customer-123")


def test_a_text_that_anybody_has_is_refused():
    with pytest.raises(FlywheelError, match="nearly anybody: write at least 3"):
        pattern(("- a",))
