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


@dg.asset(
    partitions_def=versions,
    deps=[dg.AssetDep(captures, partition_mapping=all_days), dg.AssetDep(outcomes, partition_mapping=all_days)],
    group_name="corpus",
    kinds={"lance", "duckdb"},
    owners=OWNERS,
)
def corpus(context: dg.AssetExecutionContext, wheel: Wheel) -> dg.MaterializeResult:
    """`corpus@vN`: what had arrived as of the version's time, curated. Made again, it has the same digest."""
    facts = stages.run("corpus", wheel.home, wheel.config, parse(context.partition_key))
    return dg.MaterializeResult(
        metadata={
            **metadata.of(facts),
            **metadata.column_schema(TRAJECTORIES),
            "dagster/partition_row_count": int(facts.counts["rows"]),
        },
        data_version=dg.DataVersion(facts.digest),
    )


def _check(name: str, text: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=corpus, name=name, description=text, blocking=True, partitions_def=versions)
    def check(context: dg.AssetCheckExecutionContext, wheel: Wheel) -> dg.AssetCheckResult:
        found = checks.CORPUS[name](wheel.home, wheel.config, parse(context.partition_key))
        return dg.AssetCheckResult(
            passed=not found, metadata={"failures": len(found), "rows": metadata.markdown_table(found)}
        )

    return check


corpus_schema = _check("schema", "Rows have the columns of the vocabulary, and kept + dropped = candidates.")
corpus_leakage = _check("leakage", "No training row repeats a held-out task, exactly or nearly.")
corpus_reproducible = _check("reproducible", "Decided again from the captures, the version has the same digest.")
