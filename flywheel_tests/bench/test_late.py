"""What the pictures of a late outcome wait for, and that they show what they are cut to."""

import shutil
import struct

import dagster as dg
import pytest


@dg.job(name="turn")
def turn_of_nothing():
    """A stand-in by name."""


def turn(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, asked_by: str = "late_outcomes") -> str:
    tags = {"dagster/sensor_name": asked_by}
    return instance.create_run_for_job(turn_of_nothing, status=status, tags=tags).run_id


def test_the_turn_that_the_sensor_asked_for_is_waited_for(tmp_path):
    late = pytest.importorskip("bench.late", reason="playwright is not installed: pip install 'flywheel[dev]'")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert late.turned(instance) is None
        turn(instance, dg.DagsterRunStatus.SUCCESS, "somebody")
        turn(instance, dg.DagsterRunStatus.STARTED)
        assert late.turned(instance) is None
        ended = turn(instance, dg.DagsterRunStatus.SUCCESS)
        assert late.turned(instance).run_id == ended
        turn(instance, dg.DagsterRunStatus.FAILURE)
        with pytest.raises(SystemExit, match="ended as FAILURE"):
            late.turned(instance)
        assert not late.said(instance, "verdicts have changed")


@pytest.mark.browser
def test_a_dialog_is_cut_out_down_to_where_it_is_empty(tmp_path):
    late = pytest.importorskip("bench.late", reason="playwright is not installed: pip install 'flywheel[dev]'")
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium on this machine")
    with late.browser(1000, 900) as context:
        [page] = context.pages
        page.set_content('<div class="bp5-dialog" style="height: 600px">why a version was made</div>')
        late.dialog(page, tmp_path / "dialog.png", 200)
        late.settled(page, "why a version", tmp_path / "page.png")
    sizes = {path.stem: struct.unpack(">II", path.read_bytes()[16:24]) for path in tmp_path.iterdir()}
    assert sizes == {"dialog": (940, 200), "page": (1000, 900)}
