"""Tries what a run of `arrow-quant` meets: crashes, full disks, damaged files, other runs, all kinds of weights.

    python tests/torture                       # all campaigns, at most half an hour on two cores
    python tests/torture crashes --cases 0     # every case of one campaign
    python tests/torture errors --cases 50     # an even sample of one campaign
    python tests/torture crashes --only fresh/parquet/17/kill-half --keep

It works in a temporary folder of its own, on models that it makes, and prints what was tried, held and failed, with the
command that repeats each failure. `ARROW_QUANT` names the program, `target/release/arrow-quant` where it does not.
"""

import argparse
import random
import shlex
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from durability import Durability
from faults import Crashes, Errors
from kills import Kills
from mutants import Mutants
from numerics import Numerics, Searches
from program import Failed, Setup
from races import Races

CAMPAIGNS = {
    "crashes": Crashes,
    "errors": Errors,
    "durability": Durability,
    "kills": Kills,
    "races": Races,
    "mutants": Mutants,
    "numerics": Numerics,
    "searches": Searches,
}


# The campaigns that are sampled unless `--cases` says otherwise: every case of them takes hours. Another seed takes others.
SAMPLES = {"crashes": 620, "errors": 1820, "mutants": 10_000}


@dataclass
class Result:
    """What became of the cases of a campaign."""

    tried: int = 0
    failed: int = 0
    failures: list = field(default_factory=list)
    seconds: float = 0.0


def sample(cases, count, seed):
    """`count` of the cases (0: all of them), evenly spread over them; the seed says where they begin."""
    if not count or count >= len(cases):
        return cases
    begin = random.Random(seed).random()
    return [cases[int((at + begin) * len(cases) / count)] for at in range(count)]


def carry_out(key, setup, jobs=2, cases=None, only=None, say=lambda case, failure: None):
    """Runs one campaign; `say` is told of each failure."""
    started, result = time.monotonic(), Result()
    try:
        campaign = CAMPAIGNS[key](setup)
        count = SAMPLES.get(key, 0) if cases is None else cases
        chosen = [only] if only else sample(list(campaign.cases()), count, setup.seed)
    except Failed as failure:
        say("all", failure)
        return Result(1, 1, [("all", failure)])

    def attempt(case):
        try:
            return case, campaign.run(case) or 1, None
        except Failed as failure:
            return case, failure.tried, failure

    with ThreadPoolExecutor(jobs) as pool:
        for case, tried, failure in pool.map(attempt, chosen):
            result.tried += tried
            if failure:
                result.failed += failure.failed
                result.failures.append((case, failure))
                say(case, failure)
    result.seconds = time.monotonic() - started
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"of {', '.join(CAMPAIGNS)} [default: all]")
    parser.add_argument("--seed", type=int, default=1, help="of the models, mutations and moments [default: 1]")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time [default: 2]")
    sampled = ", ".join(f"{count} of {key}" for key, count in SAMPLES.items())
    parser.add_argument("--cases", type=int, help=f"an even sample of each campaign; 0: all cases [default: {sampled}, all of others]")
    parser.add_argument("--only", metavar="CASE", help="one case of one campaign")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with the files of failed cases")
    arguments = parser.parse_args()
    keys = arguments.campaigns or list(CAMPAIGNS)
    if unknown := [key for key in keys if key not in CAMPAIGNS]:
        parser.error(f"there is no campaign {unknown[0]}; there are {', '.join(CAMPAIGNS)}")
    if arguments.only and len(keys) != 1:
        parser.error("--only CASE needs the name of its campaign")

    folder = Path(tempfile.mkdtemp(prefix="arrow-quant-torture-"))
    failed = False
    try:
        print(f"seed {arguments.seed}, {arguments.jobs} at a time, in {folder}", flush=True)
        rows = []
        for key in keys:
            (folder / key).mkdir()
            setup = Setup(folder / key, arguments.seed)

            def say(case, failure, key=key):
                again = ["python", "tests/torture", key, "--seed", str(arguments.seed), "--only", case]
                print(f"FAILED {case}: {failure}\n    {shlex.join(again)}", flush=True)

            result = carry_out(key, setup, arguments.jobs, arguments.cases, arguments.only, say)
            name = CAMPAIGNS[key].name
            rows.append((name, result.tried, result.tried - result.failed, result.failed))
            failed |= bool(result.failures)
            print(f"{name}: {result.tried} tried, {result.failed} failed, {result.seconds:.0f} s", flush=True)
        print(f"\n{setup.version}, seed {arguments.seed}\n\n| campaign | tried | held | failed |\n|---|---|---|---|")
        for name, tried, held, failures in rows:
            print(f"| {name} | {tried:,} | {held:,} | {failures:,} |")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
