"""``scripts/simulate``: many seeds on all cores, or one of them again."""

import os
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import click

from tests.simulation.plan import Plan
from tests.simulation.shrink import shrink
from tests.simulation.world import simulate


@dataclass
class Result:
    """What became of one plan; ``failure`` is the text of what went wrong."""

    plan: Plan
    virtual_s: float = 0.0
    writes: int = 0
    quiet_after_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    failure: str = ""


def run(plan: Plan) -> Result:
    try:
        report = simulate(plan)
    except Exception as error:
        return Result(plan, failure="".join(traceback.format_exception(error)))
    return Result(plan, report.virtual_s, report.writes, report.quiet_after_s, report.faults)


def fails(plan: Plan) -> bool:
    failed = bool(run(plan).failure)
    click.echo(f"  {'fails' if failed else 'holds'}: {plan.command}")
    return failed


@click.command()
@click.option("--seeds", type=click.IntRange(1), help="How many; 100 where no --seed is given, else 1.")
@click.option("--seed", "first", type=click.IntRange(0), help="The first of them.")
@click.option("--nodes", type=click.IntRange(2, 9), help="Of every run; else each seed chooses.")
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Virtual, with faults.")
@click.option("--faults", type=click.IntRange(0), help="End the faults after so many.")
@click.option("--without", multiple=True, help="A kind of fault to leave out; may be repeated.")
@click.option("--aging", is_flag=True, help="With a short retention, and nodes away for longer than that.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count(), show_default=True, help="Processes.")
@click.option(
    "--shrink", "is_shrinking", is_flag=True, help="Look for a smaller plan that fails like the first failing."
)
def main(
    seeds: int | None,
    first: int | None,
    nodes: int | None,
    minutes: float,
    faults: int | None,
    without: tuple[str, ...],
    aging: bool,
    jobs: int,
    is_shrinking: bool,
) -> None:
    """Simulated clusters with faults, one per seed."""
    start = first or 0
    count = seeds or (100 if first is None else 1)
    plans = [
        (Plan.aging if aging else Plan.of)(seed, nodes=nodes, minutes=minutes).changed(
            faults_max=faults, without=frozenset(without)
        )
        for seed in range(start, start + count)
    ]
    began = time.monotonic()
    with ProcessPoolExecutor(min(jobs, count)) as pool:
        results = _shown(pool.map(run, plans))
    failures = [result for result in results if result.failure]
    _summarise(results, failures, time.monotonic() - began)
    if failures and is_shrinking:
        click.echo("looking for a smaller plan:")
        click.echo(f"smallest: {shrink(failures[0].plan, fails).command}")
    if failures:
        raise SystemExit(1)


def _shown(results: Iterable[Result]) -> list[Result]:
    """All results; failures are printed as they come."""
    kept = []
    for result in results:
        kept.append(result)
        if result.failure:
            click.echo(f"seed {result.plan.seed} FAILS; to run it again: {result.plan.command}\n{result.failure}")
    return kept


def _summarise(results: list[Result], failures: list[Result], took_s: float) -> None:
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
    hours = sum(result.virtual_s for result in results) / 3600
    click.echo(f"seeds       {len(results)} in {took_s:.1f} s")
    click.echo(f"virtual     {hours:.1f} hours, {sum(result.writes for result in results)} acknowledged writes")
    click.echo(f"faults      {sum(faults.values())}: {kinds}")
    click.echo(f"agreement   after {max(result.quiet_after_s for result in results):.0f} s at most")
    click.echo(f"violations  {len(failures)}" + "".join(f"\n  {result.plan.command}" for result in failures))


if __name__ == "__main__":
    main()
