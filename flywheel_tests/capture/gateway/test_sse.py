"""Server-sent events come in whatever pieces the network makes of them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from flywheel.capture.gateway.sse import Event, Events

STREAM = (
    b": a comment\n\n"
    b'event: message_start\ndata: {"a": 1}\n\n'
    b"data: one\r\ndata: two\r\n\r\n"
    b"retry: 3\nid: 7\n\n"
    b"data:[DONE]\n\n"
    b"data: cut off"
)
EVENTS = [(b"message_start", b'{"a": 1}'), (b"", b"one\ntwo"), (b"", b"[DONE]"), (b"", b"cut off")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_pieces_make_the_same_events(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    events = Events(bound=1000)

    found = [e for a, b in itertools.pairwise(bounds) for e in events.feed(STREAM[a:b])] + events.last()

    assert [(e.type, e.data) for e in found] == EVENTS


@given(st.integers(0, len(STREAM)))
def test_an_event_says_where_in_the_last_piece_it_begins(cut: int) -> None:
    events = Events(bound=1000)
    first, second = STREAM[:cut], STREAM[cut:]

    for piece, before in ((first, 0), (second, cut)):
        for event in events.feed(piece):
            whole = STREAM.index(event.data.splitlines()[0]) - before
            begins = STREAM.rfind(b"\n\n", 0, STREAM.index(event.data.splitlines()[0])) + 2 - before
            assert max(0, begins) == event.at <= max(0, whole)


def test_an_event_without_an_end_is_kept_up_to_a_bound() -> None:
    events = Events(bound=10)

    assert events.feed(b"data: 123456") == []
    assert events.broken
    assert events.feed(b"\n\ndata: x\n\n") == []


def test_the_usual_event() -> None:
    assert Events(bound=100).feed(b'data: {"x": 1}\n\n') == [Event(b"", b'{"x": 1}')]
