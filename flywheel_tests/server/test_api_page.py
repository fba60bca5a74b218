"""The page on the server is tried as it stands: its commands against a server, its settings against the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from flywheel.capture import workspaces
from flywheel.server.config import Config, load
from flywheel.settings import Home
from flywheel_tests.conftest import ROOT
from flywheel_tests.server.conftest import serving

PAGE = (ROOT / "docs" / "api.md").read_text()
UNTIL = 'until curl -s "$API/support/trajectories/run-1" | grep -q task_id; do sleep 0.1; done'
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, re.S | re.M)


def test_what_is_sent_can_be_read(home: Home, tmp_path: Path) -> None:
    workspaces.create(home, "support")
    sending, answer = (next(block for block in BLOCKS if start in block) for start in ("--data-binary", '{"accepted"'))
    reading = next(block for block in BLOCKS if "sleep 31" in block)

    def run(script: str, base: str) -> list[str]:
        script = script.replace("curl", "echo; curl").replace("sleep 31", UNTIL).replace("http://127.0.0.1:8787", base)
        ended = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return [line for line in ended.stdout.splitlines() if line]

    with serving(home, Config(settle_every_s=0.05)) as base:
        assert run(sending, base) == [answer.strip()]
        names, page, record, chat, quarantined = map(json.loads, run(reading, base))

    assert names == {"workspaces": ["support"]}
    assert [item["id"] for item in page["items"]] == ["run-1"]
    assert record["steps"][0]["content"] == "Where is my refund? I am at <EMAIL>"
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert [item["line"] for item in quarantined["items"]] == [2]
    assert json.loads((tmp_path / "support.jsonl").read_text()) == record


def test_every_setting_is_told(tmp_path: Path) -> None:
    told = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told >= set(Config.__struct_fields__)

    file = tmp_path / "server.toml"
    file.write_text(re.findall(r"<<'TOML'\n(.*?)^TOML", PAGE, re.S | re.M)[0])
    assert load(file).burst == 100
