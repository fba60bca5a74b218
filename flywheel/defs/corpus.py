"""Corpus: immutable versions of training rows, each with its reasons, its digest and its checks."""

import dagster as dg

from flywheel.defs import metadata
from flywheel.defs.capture import OWNERS, captures
from flywheel.defs.outcomes import outcomes
from flywheel.defs.partitions import all_days, versions
from flywheel.defs.resources import Wheel
from flywheel.schema import TRAJECTORIES
from flywheel.wheel import checks, stages
from flywheel.wheel.versions import parse

CHECKS = {
    "schema": "Rows have the columns of the vocabulary, and kept + dropped = candidates.",
    "leakage": "No training row gives a held-out task of any known suite away.",
    "defence": "Compared with the last version that graduated, nothing holds it; or a person let it graduate.",
    "reproducible": "Decided again from the captures, the version has the same digest.",
}


@dg.asset(
    partitions_def=versions,
    deps=[dg.AssetDep(captures, partition_mapping=all_days), dg.AssetDep(outcomes, partition_mapping=all_days)],
    check_specs=[
        dg.AssetCheckSpec(name, asset="corpus", description=text, blocking=True) for name, text in CHECKS.items()
    ],
    group_name="corpus",
    kinds={"lance", "duckdb"},
    owners=OWNERS,
)
def corpus(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """`corpus@vN`: what had arrived as of the version's time, curated. Made again, it has the same digest."""
    version = parse(context.partition_key)
    facts = stages.run("corpus", wheel.home, wheel.config, version)
    found = {name: checks.CORPUS[name](wheel.home, wheel.config, version) for name in CHECKS}
    return dg.MaterializeResult(
        metadata={
            **metadata.of(facts),
            **metadata.column_schema(TRAJECTORIES),
            "dagster/partition_row_count": int(facts.counts["rows"]),
        },
        data_version=dg.DataVersion(facts.digest),
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                passed=not rows,
                metadata={"version": version.key, "failures": len(rows), "rows": metadata.markdown_table(rows)},
            )
            for name, rows in found.items()
        ],
    )
