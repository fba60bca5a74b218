"""`flywheel demo --fresh` removes what demos made, and nothing of anybody else."""

import pytest

from flywheel.capture import access, workspaces
from flywheel.defs.demo import clear
from flywheel.schema import FlywheelError
from flywheel.settings import Home


@pytest.fixture
def made(home: Home) -> Home:
    workspaces.create(home, "production")
    (home.root / "trees").mkdir()
    access.audit(home, workspace="production", action="flywheel demo", who="ada")
    return home


def test_all_goes_but_the_audit_log(made):
    clear(made)
    assert [path.name for path in made.root.iterdir()] == ["audit"]


@pytest.mark.parametrize("workspace", ["production", "*"])
def test_what_is_guarded_stays(workspace, made):
    access.issue(made, workspace, ["admin"], name="ada")
    with pytest.raises(FlywheelError, match="is guarded by tokens"):
        clear(made)
    assert (made.root / "trees").is_dir()


def test_what_others_made_stays(made):
    workspaces.create(made, "support")
    with pytest.raises(FlywheelError, match="holds other workspaces"):
        clear(made)
