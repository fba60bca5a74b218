"""A wheel turns on the demo's defaults unless `wheel.toml` says otherwise."""

import pytest

from flywheel.schema import FlywheelError
from flywheel.wheel.config import WheelConfig, load


def test_without_a_file_the_defaults_hold(home):
    assert load(home) == WheelConfig()


def test_a_file_overrides_by_name(home):
    home.root.mkdir()
    (home.root / "wheel.toml").write_text('workspace = "support"\nseed = 7\nweek_start = 2026-10-05\n')
    config = load(home)
    assert (config.workspace, config.seed, config.week_start.isoformat()) == ("support", 7, "2026-10-05")
    assert config.corpus == WheelConfig().corpus


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(home):
    home.root.mkdir()
    (home.root / "wheel.toml").write_text("sft_stepz = 3\n")
    with pytest.raises(FlywheelError, match=r"sft_stepz.*Known names: workspace, corpus"):
        load(home)


def test_a_name_that_is_no_folder_is_refused(home):
    home.root.mkdir()
    (home.root / "wheel.toml").write_text('workspace = "../elsewhere"\n')
    with pytest.raises(FlywheelError, match="is not usable"):
        load(home)
