"""How quick redaction is, how much it finds and how much it touches, beside Presidio on the same texts.

python -m bench.redaction [--logs ../shared/data] [--plants 1040]

The texts are all messages, tool results and other strings of a folder of JSON logs; the plants are secrets and
personal data of 52 kinds, made up by seed, each in a sentence. A plant is found when what is found covers it. Presidio
runs with its recognizers for English and a blank language model, where it is installed, and sees every twentieth text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

from bench import measure
from flywheel_tests.plants import KINDS, Plant, plants

Find = Callable[[str], list[str]]  # the values that are found in a text
FEWER = 20  # of how many texts a slow one sees one


def texts(folder: Path) -> list[str]:
    """All strings in the JSON of a folder, once each, in order."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from strings(inner)

    found: dict[str, None] = {}
    for path in sorted(folder.rglob("*.json*")):
        lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
        for line in filter(None, lines):
            found |= dict.fromkeys(strings(json.loads(line)))
    return list(found)


def flywheel() -> Find:
    """Ours, by the default policy."""
    from flywheel.capture.redaction.detector import detector
    from flywheel.capture.redaction.policy import DEFAULT

    found = detector(DEFAULT)
    return lambda text: [text[span.start : span.end] for span in found.find(text)]


def presidio() -> Find:
    """Presidio's pattern recognizers for English, from the score on that it calls likely."""
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None:
            """It is there."""

    # It would fetch the list of public suffixes.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])
    kinds = [kind for kind in engine.get_supported_entities("en") if kind not in ("URL", "DATE_TIME", "PERSON")]
    return lambda text: [text[one.start : one.end] for one in engine.analyze(text, "en", kinds, score_threshold=0.4)]


def row(name: str, make: Callable[[], Find], said: list[str], planted: list[Plant]) -> dict[str, Any]:
    """One row, for `measure.write`."""
    began = process_time()
    find = make()
    find("a first text, ann@example.org")
    ready = process_time() - began
    said = said if name == "flywheel" else said[::FEWER]
    size = sum(map(len, said))
    began = process_time()
    for text in said:
        find(text)
    took = process_time() - began
    lines = [line for text in said for line in text.splitlines() if line.strip()]
    hit = [plant for plant in planted if any(plant.value.strip() in found for found in find(plant.text))]
    return {
        "detector": name,
        "ready after": measure.seconds(ready),
        "MB/s": size / took / 1e6,
        "2 kB message": measure.seconds(took / size * 2000),
        "lines touched": sum(bool(find(line)) for line in lines) / len(lines),
        "plants found": len(hit) / len(planted),
        "kinds found": len({plant.kind for plant in hit}),
    }


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("../shared/data"))
    parser.add_argument("--plants", type=int, default=20 * len(KINDS))
    options = parser.parse_args()
    said, planted = texts(options.logs), plants(0, options.plants)
    makes = {"flywheel": flywheel}
    if importlib.util.find_spec("presidio_analyzer"):
        makes["presidio"] = presidio
    rows = [measure.apart(row, name, make, said, planted).given for name, make in makes.items()]
    measure.write(
        "redaction",
        rows,
        title="Redaction",
        note="CPU time of one core. All lines that we touch hold an e-mail address, a telephone number or a password. "
        "Presidio looks for personal data alone, and half of the plants are credentials.",
    )


if __name__ == "__main__":
    main()
