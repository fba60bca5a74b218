"""Cutting records out of large JSON files."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.importers import documents
from flywheel.schema import FlywheelError


def pieces(tmp_path: Path, text: bytes, start: int = 0) -> list[tuple[str | None, bytes, int, bool]]:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with documents.opened(path) as data:
        return [(p.key, p.data, p.line, p.cut) for p in documents.elements(data, start)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[]", []),
        (b'[1, "a,]\\"", {"b": [2]}]', [b"1", b'"a,]\\""', b'{"b": [2]}']),
        (b' [ {"a": "}"} , null ] \n', [b'{"a": "}"}', b"null"]),
    ],
)
def test_elements_of_a_list(tmp_path: Path, text: bytes, found: list[bytes]) -> None:
    assert [(data, cut) for _, data, _, cut in pieces(tmp_path, text)] == [(data, False) for data in found]


def test_members_of_an_object_with_their_lines_and_repeated_keys(tmp_path: Path) -> None:
    text = b'{\n "a": 1,\n "b\\u00fc": {"a": ":"},\n\n "a": [\n2]}'
    assert pieces(tmp_path, text) == [
        ("a", b"1", 2, False),
        ("bü", b'{"a": ":"}', 3, False),
        ("a", b"[\n2]", 5, False),
    ]


def test_a_broken_record_costs_no_other(tmp_path: Path) -> None:
    assert [data for _, data, _, _ in pieces(tmp_path, b'[{"a": NaN}, {"a" 1}, {"a": 1}]')] == [
        b'{"a": NaN}',
        b'{"a" 1}',
        b'{"a": 1}',
    ]


@pytest.mark.parametrize(
    ("text", "last"),
    [(b'[1, {"a": [2', b'{"a": [2'), (b'[1, "open', b'"open'), (b"[1] [2]", b"[2]"), (b'{"a": 1, "b"', b'"b"')],
)
def test_what_is_cut_off_or_goes_on_is_marked(tmp_path: Path, text: bytes, last: bytes) -> None:
    *rest, (_, data, _, cut) = pieces(tmp_path, text)
    assert (data, cut) == (last, True)
    assert not any(cut for _, _, _, cut in rest)


def test_lines_without_the_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": 2}')
    with documents.opened(path) as data:
        assert [(p.data, p.line) for p in documents.lines(data)] == [(b'{"a": 1}', 1), (b'{"b": 2}', 4)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'[{"a": 1},\n {"a": 2}]', [b'{"a": 1}', b'{"a": 2}']),
        (b'\xef\xbb\xbf [{"a": 1}]', [b'{"a": 1}']),
        (b'{"a": 1}\n{"a": 2}\n', [b'{"a": 1}', b'{"a": 2}']),
        (b'{"a": 1}', [b'{"a": 1}']),
        (b'{\n "a":\n 1\n}\n', [b'{\n "a":\n 1\n}']),
        (b'{"a": \n{"a": 2}', [b'{"a":', b'{"a": 2}']),  # a broken line costs no other
        (b'{"a": 1}\nbroken\n', [b'{"a": 1}', b"broken"]),
        (b'[\n{"a": 1}\n', [b"[", b'{"a": 1}']),
        (b'[\n{"a": 1},\n{"a": 2}\n]', [b'{"a": 1}', b'{"a": 2}']),
        (b'broken\nand again\n{"a": 1}', [b"broken", b"and again", b'{"a": 1}']),
        (b'{"a"\nbroken\n{"a": 1}', [b'{"a"', b"broken", b'{"a": 1}']),
        (b'{\n "a":\n {}\n}', [b'{\n "a":\n {}\n}']),
        (b'{\n"a":\n{"b": 1}\n}', [b'{\n"a":\n{"b": 1}\n}']),
    ],
)
def test_records_of_a_list_of_lines_and_of_one_object(tmp_path: Path, text: bytes, found: list[bytes]) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with documents.opened(path) as data:
        assert [piece.data for piece in documents.records(data)] == found


def test_gzip_is_unpacked_whatever_its_name_and_however_many_members_it_has(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n'))
    assert documents.head(path, 12) == b'{"a": 1}\n{"a'
    with documents.opened(path) as data:
        assert [piece.data for piece in documents.lines(data)] == [b'{"a": 1}', b'{"a": 2}']


@pytest.mark.parametrize("break_off", [lambda d: d[:-9], lambda d: d[:-5] + b"xxxxx", lambda d: d + b"not gzip"])
def test_gzip_that_breaks_off_is_read_up_to_there(tmp_path: Path, break_off: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file.jsonl.gz"
    rows = b"".join(b'{"a": %d}\n' % n for n in range(100_000))
    path.write_bytes(gzip.compress(b'{"a": 0}\n') + bytes(9) + break_off(gzip.compress(rows)))
    read = []
    with pytest.raises(documents.Torn, match="breaks off"), documents.opened(path) as data:
        read = list(documents.lines(data))
    assert len(read) > 99_000
    assert documents.head(path, 2**22)[:18] == b'{"a": 0}\n{"a": 0}\n'


def test_gzip_that_is_nothing_or_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.jsonl.gz"
    path.write_bytes(gzip.compress(b"a" * 100)[:10])
    with pytest.raises(documents.Unreadable, match="cannot be unpacked"), documents.opened(path):
        pass
    with pytest.raises(documents.Unreadable, match="cannot be unpacked"):
        documents.head(path, 2**20)
    monkeypatch.setattr(documents, "ALLOWANCE", 2**20)
    path.write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(FlywheelError, match="unpacks to more than 1,048,576 bytes"), documents.opened(path):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=st.lists(JSON) | st.dictionaries(st.text(), JSON), indent=st.none() | st.integers(0, 2))
def test_what_is_cut_out_is_what_a_parser_reads(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: int | None
) -> None:
    found = pieces(tmp_path_factory.mktemp("json"), json.dumps(value, indent=indent).encode())
    read = [json.loads(data) for _, data, _, _ in found]
    assert not any(cut for _, _, _, cut in found)
    assert read == (list(value.values()) if isinstance(value, dict) else value)
    if isinstance(value, dict):
        assert [key for key, _, _, _ in found] == list(value)


@pytest.mark.parametrize("text", [b"[", b'[{"a": 1},', b'{"a":', b'{"a": 1, "b":', b'[{"a": 1}'])
def test_a_document_that_breaks_off_between_records_says_so(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with documents.opened(path) as data:
        assert [piece.cut for piece in documents.elements(data)][-1]
