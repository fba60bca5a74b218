"""What a cluster of two nodes computes, and what it leaves when a worker dies: run by `test_cluster`."""

import os
import shutil
import signal

import msgspec
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from flywheel import warehouse
from flywheel.cli import app
from flywheel.corpus.rebuild import rebuild
from flywheel.corpus.snapshot import snapshot
from flywheel.curate import derived, fingerprint, prepared
from flywheel.curate.cluster import connected
from flywheel.curate.derivation import Derivation
from flywheel.curate.derived import bring, opened
from flywheel.curate.spec import NearDuplicates
from flywheel.schema import FlywheelError
from flywheel.settings import Home
from flywheel_tests.corpus.conftest import SPEC, TUESDAY, verdict, write
from flywheel_tests.corpus.conftest import trajectory as episode
from flywheel_tests.outcomes.stored import store, trajectory

pytest.importorskip("ray", reason="Ray is not installed: pip install 'flywheel[ray]'")
# Ray starts programs of its own, which is no fork to be warned of.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:lance is not fork-safe")]


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes with one core each, on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        # Not 127.0.0.1, which Ray takes for another name of the machine's own address.
        node = {"num_cpus": 1, "node_ip_address": "127.0.0.2", "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.add_node(**node)
        patch.setenv("RAY_ADDRESS", cluster.address)
        with connected():
            yield cluster
        cluster.shutdown()


@pytest.fixture
def days(home: Home, monkeypatch) -> Home:
    """Six files of captures of a row each, each a task; the first three days are one commit."""
    for day in range(6):
        store(home, trajectory(f"{day}", "Mend this.", f"It is mended for the {day}th time.", hours=24 * day))
    monkeypatch.setattr(derived, "TASK_BYTES", 1)
    monkeypatch.setattr(derived, "GROUP_BYTES", 3 * warehouse.files(home.captures, "w")[0].stat().st_size + 100)
    return home


def counting(folder, die=None, harm=None) -> Derivation:
    """The process that computed each row, told in a folder as well; `die` is a row at which its first process dies."""

    def compute(rows: pa.Table) -> pa.Table:
        for name in rows["id"].to_pylist():
            tried = len(list(folder.glob(f"{name}.*")))
            (folder / f"{name}.{tried}").touch()
            if name == die and tried == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if name == harm:
                raise ValueError("cannot be computed")
        return pa.table({"length": [len(name) for name in rows["id"].to_pylist()]})

    schema = pa.schema([("length", pa.int64())])
    return Derivation(name="counts", recipe="1", columns=("id",), schema=schema, compute=compute)


def content(dataset) -> pa.Table:
    return dataset.to_table(scan_in_order=True)


@pytest.mark.parametrize(
    "derivation", [prepared.ROWS, fingerprint.derivation(NearDuplicates())], ids=["rows", "prints"]
)
def test_the_table_is_that_of_one_process(nodes, days, tmp_path, derivation):
    told = []
    made = bring(days, "w", derivation, engine="ray", progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]
    alone = Home(tmp_path / "alone")
    alone.root.mkdir()
    alone.captures.symlink_to(days.captures)
    assert content(made).equals(content(bring(alone, "w", derivation)))


def test_both_nodes_compute(nodes, days, tmp_path):
    def compute(rows: pa.Table) -> pa.Table:
        import time

        import ray

        time.sleep(0.2)
        return pa.table({"node": [ray.get_runtime_context().get_node_id()] * len(rows)})

    schema = pa.schema([("node", pa.string())])
    derivation = Derivation(name="nodes", recipe="1", columns=("id",), schema=schema, compute=compute)
    made = bring(days, "w", derivation, engine="ray")
    assert len(set(content(made)["node"].to_pylist())) == 2


def test_what_a_dead_worker_began_is_computed_again(nodes, days, tmp_path):
    made = bring(days, "w", counting(tmp_path, die="2"), engine="ray")
    assert content(made)["id"].to_pylist() == ["0", "1", "2", "3", "4", "5"]
    assert sorted(file.name for file in tmp_path.glob("2.*")) == ["2.0", "2.1"]


def test_a_row_that_cannot_be_computed_leaves_whole_commits_and_the_next_run_goes_on(nodes, days, tmp_path):
    with pytest.raises(FlywheelError, match=r"'counts' cannot be derived from .*ValueError: cannot be computed"):
        bring(days, "w", counting(tmp_path, harm="4"), engine="ray")
    derivation = counting(tmp_path)
    assert content(opened(days, "w", derivation))["id"].to_pylist() == ["0", "1", "2"]
    made = bring(days, "w", derivation)
    assert content(made)["id"].to_pylist() == ["0", "1", "2", "3", "4", "5"]
    held = {file.path for fragment in made.get_fragments() for file in fragment.data_files()}
    assert {file.name for file in (derived.folder(days, "w", derivation) / "data").iterdir()} == held


def test_another_release_on_a_worker_is_refused(nodes, days, tmp_path, monkeypatch):
    from flywheel.curate import cluster

    monkeypatch.setattr(cluster, "_releases", lambda: dict.fromkeys(cluster._PACKAGES, "0"))
    with pytest.raises(FlywheelError, match="install the same on every node"):
        bring(days, "w", counting(tmp_path), engine="ray")
    assert opened(days, "w", counting(tmp_path)).count_rows() == 0


def test_a_version_has_the_digest_of_one_machine_and_rebuilds_on_the_cluster(nodes, home):
    write(home, [episode(n) for n in range(12)], [verdict(n, float(n not in (3, 7))) for n in range(12)])
    spec = msgspec.structs.replace(SPEC, near_duplicates=NearDuplicates())
    far = snapshot(home, "far", spec, TUESDAY, engine="ray")
    for table in ("rows", "fingerprints"):
        [folder] = (home.derived / "support").glob(f"{table}-*.lance")
        shutil.rmtree(folder)
    near = snapshot(home, "near", spec, TUESDAY)
    assert (far.digest, far.decisions_digest, far.reasons) == (near.digest, near.decisions_digest, near.reasons)
    assert rebuild(home, "near", raw=True, engine="ray").same


def test_the_command(nodes, home, monkeypatch):
    write(home, [episode(0)], [verdict(0, 1.0)])
    monkeypatch.setenv("FLYWHEEL_HOME", str(home.root))
    asked = ["snapshot", "support", "--to", "corpus", "--as-of", "2026-11-03", "--engine", "ray", "--json"]
    made = CliRunner().invoke(app, asked)
    assert made.exit_code == 0, made.output
    again = CliRunner().invoke(app, ["corpus", "rebuild", "corpus@v1", "--engine", "ray", "--json"])
    assert msgspec.json.decode(again.stdout)["digest"] == msgspec.json.decode(made.stdout)["digest"]


def test_only_what_is_missing_goes_to_the_cluster(nodes, days, tmp_path):
    derivation = counting(tmp_path)
    bring(days, "w", derivation)
    made = bring(days, "w", msgspec.structs.replace(derivation, compute=None), engine="ray")
    assert made.count_rows() == 6
