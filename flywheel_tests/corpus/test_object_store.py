"""A corpus on an object store: an S3 server on loopback gives what a folder gives, to the digest."""

import json
import signal
import subprocess
import sys
from datetime import timedelta

import lance
import numpy as np
import pytest
from typer.testing import CliRunner

from flywheel import artifacts, warehouse
from flywheel.capture import access, workspaces
from flywheel.capture.access import Denied
from flywheel.cli import app
from flywheel.corpus import decisions, store
from flywheel.corpus.gc import collect
from flywheel.corpus.manifest import load, manifest, versions
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.snapshot import branch, snapshot
from flywheel.corpus.streaming.stream import texts_of
from flywheel.corpus.verify import verify
from flywheel.curate.spec import NearDuplicates, Spec
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests import apart
from flywheel_tests.corpus.conftest import MONDAY, SPEC, TUESDAY, WEDNESDAY, trajectory, verdict, write

pytestmark = pytest.mark.slow

NEAR = Spec(workspace="support", filter=SPEC.filter, reward_policy=SPEC.reward_policy, near_duplicates=NearDuplicates())


def week(home: Home) -> None:
    write(home, [trajectory(n) for n in range(12)], [verdict(n, float(n not in (3, 7))) for n in range(12)])


def late(home: Home) -> None:
    write(home, [trajectory(12, TUESDAY)], [verdict(12, 1.0, arrived_at=TUESDAY), verdict(2, 0.0, "reopened", TUESDAY)])


def said(made) -> tuple:
    return made.digest, made.decisions_digest, made.reasons, made.inputs, made.as_of


def test_versions_are_those_of_a_folder(home, far):
    made = []
    for place in (home, far):
        week(place)
        first = snapshot(place, "support", NEAR, MONDAY)
        late(place)
        second = snapshot(place, "support", NEAR, WEDNESDAY)
        assert not snapshot(place, "support", NEAR, WEDNESDAY).created
        other = branch(place, "support", "strict", SPEC)
        assert [verify(place, "support", version) for version in (1, 2, 3)] == [[], [], []]
        rows = store.rows(place, "support")
        texts = texts_of(place, second)
        read = texts.batch(np.arange(len(texts)))["text"]
        made.append([said(first), said(second), said(other), decisions.decisions(place, second), rows, read])
    assert made[0] == made[1]
    assert not far.root.joinpath("captures").exists()
    assert not far.root.joinpath("corpora").exists()


def test_data_that_is_gone_is_restored_and_a_rebuild_is_the_same(far):
    week(far)
    made = snapshot(far, "support", NEAR, MONDAY)
    late(far)
    snapshot(far, "support", NEAR, WEDNESDAY)
    assert rebuild(far, "support", 1, raw=True).same
    assert not list(far.data.glob(".scratch*"))
    (far.corpora / "support" / made.decision_files[0]).unlink()
    artifacts.remove(far.derived / "support")
    assert verify(far, "support", 1) != []
    assert rebuild(far, "support", 1).restored == ("content", "decisions")
    assert [verify(far, "support", version) for version in (1, 2)] == [[], []]


def test_of_two_machines_that_make_one_version_the_second_is_told(far, tmp_path, monkeypatch):
    week(far)
    first = snapshot(far, "support", SPEC, MONDAY)
    late(far)
    # Another machine, with locks of its own, looks at the versions at the same moment.
    stale = {"versions": lambda *_: [1], "next_number": lambda *_: 2}
    second = snapshot(far, "support", SPEC, WEDNESDAY)
    for name, answer in stale.items():
        monkeypatch.setattr(f"flywheel.corpus.snapshot.{name}", answer)
    monkeypatch.setattr(artifacts, "LOCKS", tmp_path / "locks of another machine")
    with pytest.raises(FlywheelError, match=r"another machine made support@v2 in this moment"):
        snapshot(far, "support", SPEC, TUESDAY)
    assert load(far, "support", 2) == manifest(far, "support", 2)
    assert load(far, "support", 2).digest == second.digest
    assert [verify(far, "support", version) for version in (first.version, second.version)] == [[], []]


def test_space_is_reclaimed(far):
    week(far)
    snapshot(far, "support", SPEC, MONDAY)
    left = far.corpora / "support" / "decisions" / "v9-0.parquet"
    left.write_bytes(b"left by a machine that died")
    assert collect(far, older_than=timedelta(0)).removed == ("corpora/support/decisions/v9-0.parquet",)
    assert verify(far, "support", 1) == []


def test_captures_are_appended_once(far):
    week(far)
    week(far)
    [file] = warehouse.files(far.captures, "support")
    assert str(file).startswith(f"{far.store}/captures/workspace=support/day=2026-11-02/")


KILLED = """
import os, signal
from flywheel import artifacts, settings
from flywheel.corpus.snapshot import snapshot
from flywheel_tests import apart
from flywheel_tests.corpus.conftest import TUESDAY
from flywheel_tests.corpus.test_object_store import NEAR

artifacts.write_json = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
snapshot(settings.home(), "support", NEAR, TUESDAY)
"""


def test_a_kill_before_the_manifest_leaves_no_version(home, far):
    for place in (home, far):
        week(place)
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert versions(far, "support") == []
    assert len(list((far.corpora / "support" / "decisions").iterdir())) == 1
    assert said(snapshot(far, "support", NEAR, TUESDAY)) == said(snapshot(home, "support", NEAR, TUESDAY))
    assert verify(far, "support") == []


def test_workers_of_a_cluster_write_there():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'flywheel[ray]'")
    apart.passes("flywheel_tests/corpus/far_on_ray.py")


def test_the_commands(far, tmp_path, monkeypatch):
    chats = tmp_path / "chats.jsonl"
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chats.write_text("".join(json.dumps({"messages": [*said, *said[: n + 1]], "reward": 1}) + "\n" for n in range(2)))

    def flywheel(*words: str):
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    flywheel("workspace", "create", "desk")
    assert [file["added"] for file in flywheel("ingest", str(chats), "-w", "desk")["files"]] == [2]
    assert [file["added"] for file in flywheel("ingest", str(chats), "-w", "desk")["files"]] == [0]
    assert flywheel("snapshot", "desk", "--to", "desk")["candidates"] == 2
    [first, second] = flywheel("query", "SELECT id FROM trajectories ORDER BY id")
    flywheel("forget", "-w", "desk", "--trajectory", first["id"], "--yes")
    assert flywheel("query", "SELECT id FROM trajectories") == [second]
    assert flywheel("corpus", "verify", "desk")["whole"]
    [rows] = (far.derived / "desk").glob("rows-*.lance")
    assert lance.dataset(str(rows)).to_table(columns=["id"]).to_pylist() == [second]
    # Another machine, which has nothing but the address.
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "another machine"))
    assert flywheel("workspace", "list")[0]["name"] == "desk"
    [again] = flywheel("ingest", str(chats), "-w", "desk")["files"]
    assert (again["added"], again["erased"]) == (0, 1)


def test_tokens_and_queries_are_of_the_workspaces_of_the_store(far, monkeypatch):
    week(far)
    workspaces.create(far, "other")
    token, grant = access.issue(far, "support", ["admin"], name="ada")
    low, _ = access.issue(far, "support", ["read"], name="bob")
    assert access.check(far, "support", "admin", token) == grant
    other = Home(far.root.parent / "other-machine", far.store)
    access.revoke(other, "support", grant.id)
    with pytest.raises(Denied, match="is revoked"):
        access.check(far, "support", "admin", token)
    access.issue(other, "other", ["admin"], name="eve")
    monkeypatch.setenv("FLYWHEEL_TOKEN", low)
    asked = ["query", "SELECT workspace, count(*) AS n FROM trajectories GROUP BY ALL", "--json"]
    assert json.loads(CliRunner().invoke(app, asked).stdout) == [{"workspace": "support", "n": 12}]
    raw = f"SELECT count(*) FROM read_parquet('{far.captures}/workspace=other/*/*.parquet')"
    assert "Permission" in str(CliRunner().invoke(app, ["query", raw]).exception)
    monkeypatch.delenv("FLYWHEEL_TOKEN")
    assert isinstance(CliRunner().invoke(app, asked).exception, Denied)
