"""Made-up language with the statistics of real text; each word depends on a key and a place alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

Ints = np.ndarray[Any, np.dtype[np.uint64]]

COMMON = """
the to and of a i in is you for that it on with not this be have your my we are was can as at or please order
from if but so me will no do an what by they has when there which one would he all were their our who been more
about had out up its than some could them other then only into any new also time get like after use two how
first work over well way even want because these give day most us check need found account status item date
number payment user error file name list value result return type call data page note state line code test run
change update request response customer refund ticket flight booking address email phone delivery policy service
issue problem question answer help thanks sorry sure okay yes done next before still again right now here same
last being made between must through back years where much should very each just those people own see make long
great such under while might every never available information according although another anything appears
application applied approved around arrived asked attached automatic balance believe below better billing
business calendar cancel cancelled card carefully certain charge charged checked choose clear closed collected
command comment company complete completed confirm confirmed connection consider contact contains continue
contract control copied correct cost count country course coverage create created credit current damaged
database deadline decided default delay deleted department depends describe description details device different
directly directory discount display document domain download during earlier either empty enabled engine enough
entered entry equal estimate event exactly example except exchange existing expected expired explain export
external extra failed failure family feature field final find finished fixed folder follow following format
forward free full function further general group handle happened having header hotel hours however identity
immediately import important include included increase index input inside installed instead insurance internal
invoice involved itself journey keep kept language large later latest learn least leave length letter level
limit linked local location locked login longer looking lower luggage main maintain manager manual market match
maximum means measure member memory mention message method middle minimum minutes missing mode model module
month morning moved multiple nearly necessary network nothing notice object offer office often once online open
operation option original output outside package paid parameter part particular partner passed password pattern
pending perhaps period permission person place plan point position possible prefer prepared present previous
price print private process product profile program project proposed provide public purchase quality quantity
quick rather reached read ready reason receipt receive received recent record reduce reference region regular
related release remain remember remove removed repeat replace report requested required reservation reset
resolved resource responsible restart review reviewed room route rule running sales saved schedule search season
second secret section security select send sender sent separate serial server session setting several shared
shipping short shown sign similar simple single site situation small software someone something sometimes source
special specific standard start started statement step stock stopped storage store string subject submitted
success suggest summary supplier support supported system table taken team template terminal terms therefore
thing think though thought today together tomorrow total track transfer travel tried trouble understand unit
unless until updated upgrade usage useful usually valid version visit waiting warning website week whether whole
window within without word working worth write written wrong yesterday
"""

SYLLABLES = """
ba be bi bo ca ce ci co da de di do fa fe fi fo ga ge gi go ha he hi ho ja jo ka ke ki ko la le li lo ma me mi
mo na ne ni no pa pe pi po qua ra re ri ro sa se si so ta te ti to va ve vi vo wa we za ze zo ster ling ment
tion al er or an en ish ard
"""

WORDS = 30_000
NAMED = 60_000  # ids and amounts: about one word in thirty
BITS = 20

# Above 1, so that made-up words are an eighth of a text and it has the tokens that its length in English has.
ZIPF, FLAT = 1.75, 20.0

# How a token ends. The last of a text has END, or CLOSE inside a JSON object; KEY leads from its id to its note.
SPACE, COMMA, STOP, END, CLOSE, KEY = range(6)
ENDINGS = (" ", ", ", ". ", ".", '"}', '","note":"')

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: Ints) -> Ints:
    """Numbers that look drawn by chance: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = numbers.copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def drawn(keys: Ints, places: Any) -> Ints:
    """The number at each place of the stream that a key names; `places` are integers, one a key or one for all."""
    return mixed(keys + (np.atleast_1d(places).astype(np.uint64) + np.uint64(1)) * GOLDEN)


def share(numbers: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers as fractions in [0, 1)."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hexes(*columns: Ints, before: str = "", after: str = "") -> pa.Array:
    """Each row's numbers as hexadecimal digits, sixteen a number, between two fixed texts."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    octets = np.ascontiguousarray(np.stack(columns, axis=1).astype(">u8")).view(np.uint8).reshape(-1, 8 * len(columns))
    pairs = np.stack([digits[octets >> 4], digits[octets & 15]], axis=2).reshape(len(octets), 16 * len(columns))
    left, right = (np.tile(np.frombuffer(t.encode(), np.uint8), (len(pairs), 1)) for t in (before, after))
    data = np.ascontiguousarray(np.hstack([left, pairs, right]))
    offsets = np.arange(len(pairs) + 1, dtype=np.int32) * data.shape[1]
    return pa.StringArray.from_buffers(len(pairs), pa.py_buffer(offsets), pa.py_buffer(data))


class Language:
    """A vocabulary whose frequencies fall as Zipf's law has it, and texts made of it.

    `openings` are whole texts that may begin a text: a system prompt, a stock phrase, the head of a JSON object.
    """

    def __init__(self, seed: int, openings: list[str]) -> None:
        random = np.random.default_rng(seed)
        made: dict[str, None] = dict.fromkeys(COMMON.split())
        syllables = SYLLABLES.split()
        while len(made) < WORDS:
            # The rarer the longer, as in every language.
            length = 2 + (len(made) > 2000) + int(random.integers(0, 2))
            made["".join(syllables[i] for i in random.integers(0, len(syllables), length))] = None
        numbers = random.integers(10, 10_000_000, NAMED)
        named = [f"W{n:07d}" if i % 2 else str(n % 5000) for i, n in enumerate(numbers.tolist())]
        words = [*made, *named]
        self.tokens = pa.array([word + ending for word in words for ending in ENDINGS] + openings, pa.large_string())
        self.openings = len(words) * len(ENDINGS)
        weights = 1.0 / (np.arange(WORDS) + FLAT) ** ZIPF
        cumulative = np.cumsum(weights) / weights.sum()
        common = np.searchsorted(cumulative, (np.arange(int(2**BITS * 0.97)) + 0.5) / int(2**BITS * 0.97))
        rare = WORDS + np.arange(2**BITS - len(common)) % NAMED
        self.words = np.concatenate([common, rare]).astype(np.int32)
        ending = np.full(256, SPACE, np.int32)
        ending[:20], ending[20:34] = COMMA, STOP
        self.endings = ending

    def texts(
        self,
        keys: Ints,
        lengths: np.ndarray[Any, Any],
        *,
        opening: np.ndarray[Any, Any] | None = None,
        record: np.ndarray[Any, Any] | None = None,
        group: Ints | None = None,
        shared: np.ndarray[Any, Any] | None = None,
        copies: Ints | None = None,
        changed: np.ndarray[Any, Any] | None = None,
    ) -> pa.Array:
        """One text for each key, of so many words (0 or more; a text of none is its opening or empty).

        `opening` numbers what a text begins with (-1: nothing); where `record` holds, the text is the inside of a JSON
        object: an id, then a note (of 2 words or more). Of the runs of 16 words a fraction `shared` is that of all
        texts of the same `group` key. Of the words a fraction `changed` is drawn anew by the `copies` key.
        """
        count = len(keys)
        runs = -(-lengths // 16)
        run_text = np.repeat(np.arange(count), runs)
        run_place = np.arange(len(run_text)) - np.repeat(np.cumsum(runs) - runs, runs)
        run_keys = keys[run_text]
        if group is not None and shared is not None:
            common = drawn(group[run_text], run_place)
            run_keys = np.where(share(common) < shared[run_text], group[run_text], run_keys)
        starts = np.cumsum(lengths) - lengths
        total = int(lengths.sum())
        places = np.arange(total) - np.repeat(starts, lengths)
        chance = drawn(np.repeat(run_keys, np.minimum(16, lengths[run_text] - 16 * run_place)), places)
        if copies is not None and changed is not None:
            again = np.flatnonzero(np.repeat(changed > 0, lengths))
            text = np.repeat(np.arange(count), lengths)[again] if len(again) else again
            anew = drawn(copies[text], places[again])
            chance[again] = np.where(share(anew) < changed[text], mixed(anew), chance[again])
        tokens = self.words[(chance >> np.uint64(64 - BITS)).astype(np.int64)] * len(ENDINGS)
        tokens += self.endings[(chance & np.uint64(255)).astype(np.int64)]
        last = (starts + lengths - 1)[lengths > 0]
        inside = np.zeros(count, bool) if record is None else record
        tokens[last] += np.where(inside[lengths > 0], CLOSE, END) - tokens[last] % len(ENDINGS)
        first = starts[inside]
        named = WORDS + (chance[first] % np.uint64(NAMED)).astype(np.int32)
        tokens[first] = named * len(ENDINGS) + KEY
        widths = lengths
        if opening is not None:
            opened = opening >= 0
            tokens = np.insert(tokens, starts[opened], self.openings + opening[opened])
            widths = lengths + opened
        data = self.tokens.take(pa.array(tokens))
        _, offsets, text = data.buffers()
        bounds = np.frombuffer(offsets, np.int64)[np.concatenate([[0], np.cumsum(widths)])]
        return pa.StringArray.from_buffers(count, pa.py_buffer(bounds.astype(np.int32)), text)
