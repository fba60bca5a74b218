"""Evaluate: held-out success with intervals, paired tests, slices and controls."""

import dagster as dg

from flywheel.defs import metadata, process
from flywheel.defs.capture import OWNERS
from flywheel.defs.partitions import versions
from flywheel.defs.resources import Wheel
from flywheel.defs.train import dpo, rejection_sampling, sft
from flywheel.wheel import checks
from flywheel.wheel.versions import parse

GATE = """Whether the candidate may take the champion's place.

A candidate that is merely not better is a warning: the champion stays, and the wheel turns on. A leak or a report
that cannot be judged is an error, and nothing downstream of it runs."""


@dg.asset(
    partitions_def=versions,
    deps=[sft, dpo, rejection_sampling],
    check_specs=[dg.AssetCheckSpec("gate", asset="evaluation", description=GATE, blocking=True)],
    group_name="evaluate",
    kinds={"torch", "matplotlib"},
    owners=OWNERS,
)
def evaluation(
    context: dg.AssetExecutionContext, pipes: dg.PipesSubprocessClient, wheel: Wheel
) -> dg.MaterializeResult:
    """The report of a version: policies, controls and baselines on held-out templates with fresh seeds."""
    result = process.run(context, pipes, "evaluation")
    verdict = checks.gate(wheel.home, wheel.config, parse(context.partition_key))
    gate = dg.AssetCheckResult(
        check_name="gate",
        passed=verdict.promote,
        severity=dg.AssetCheckSeverity.ERROR if verdict.blocked else dg.AssetCheckSeverity.WARN,
        metadata={"version": context.partition_key, "rules": metadata.markdown_table(verdict.rows)},
    )
    return result._replace(check_results=[gate])
