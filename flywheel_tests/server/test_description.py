"""The interface does what its description says, whatever is sent: no 5xx, and no answer that is not described."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from flywheel.server.app import create_app
from flywheel.settings import Home
from flywheel_tests.access import MINE, Tokens, two

EXAMPLES = 10  # of each route

# A model's server answers these.
PASSED = r"/v1/(chat/completions|responses|messages)$"
# Cursors, versions and SQL conditions are text, of which not every one is good; bad records are taken, into quarantine.
BEYOND = [positive_data_acceptance, negative_data_rejection]


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_no_answer_is_one_that_is_not_described(mode: schemathesis.GenerationMode, home: Home) -> None:
    headers = {"Authorization": f"Bearer {Tokens(two(home)).of(MINE, 'admin')}"}
    described = schemathesis.openapi.from_asgi("/openapi.json", create_app(home)).exclude(path_regex=PASSED)
    tried = set()

    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        def holds(case: schemathesis.Case) -> None:
            tried.add(case.operation.label)
            if "workspace" in case.path_parameters:
                case.path_parameters["workspace"] = MINE
            case.call_and_validate(headers=headers, excluded_checks=BEYOND)

        with suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
            holds()
    assert "POST /api/v1/workspaces/{workspace}/trajectories" in tried
