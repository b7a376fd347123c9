"""Crashes before, in the middle of and after every file operation, and errors that it gives back."""

import shutil
from itertools import groupby

from program import ERRNO, Failed, expect_clean
from scenarios import Stages

# What may happen by halves, and what changes names: for the rest, after it is as before the next.
HALVES, NAMES = {"write", "copy"}, {"rename"}


def thinned(operations):
    """The operations, but of each long run of writes to one file the first, the middle one and the last two."""
    for _, run in groupby(operations, key=lambda operation: operation[1:3]):
        run = list(run)
        yield from run if len(run) <= 4 else [run[0], run[len(run) // 2], *run[-2:]]


class Faults:
    """One fault at one operation of one scenario: `fresh/parquet/17/kill-half`."""

    def __init__(self, setup):
        self.setup, self.stages = setup, Stages(setup)

    def cases(self):
        for name in self.stages.scenarios:
            for number, operation, *_ in thinned(self.stages[name].operations):
                for fault in self.faults(operation):
                    yield f"{name}/{number}/{fault}"

    def run(self, case):
        name, number, fault = case.rsplit("/", 2)
        stage = self.stages[name]
        work = stage.work(case.replace("/", "-"))
        arguments = stage.scenario.arguments(self.setup, work)
        lasts = fault == "ENOSPC"
        done = self.setup.run(*arguments, watch=work, at=int(number), fault=fault, lasts=lasts)
        try:
            self.check(stage, work, done)
            state = stage.expect_whole(work)
            if done.code == 0 and (state != "new" or stage.beside(work)):
                raise Failed(f"exit 0 with the {state} output and {stage.beside(work) or 'nothing'} beside it")
            ways = stage.scenario.ways_on
            stage.expect_goes_on(work, ways[(int(number) + len(fault)) % len(ways)], state)
        except Failed as failure:
            _, operation, path, _ = stage.operations[int(number) - 1]
            raise Failed(f"{fault} at {operation} {path}: {failure}") from failure
        shutil.rmtree(work)


class Crashes(Faults):
    name = "crash points"
    asks = (
        "The process is killed before each operation that changes a file, in the middle of each write, and after each "
        "rename. The output is the old whole or the new whole; going on gives the bytes of an undisturbed run, and "
        "nothing is left beside them."
    )

    @staticmethod
    def faults(operation):
        more = ["kill-half"] if operation in HALVES else ["kill-after"] if operation in NAMES else []
        return ["kill-before", *more]

    @staticmethod
    def check(stage, work, done):
        if done.code not in (0, -9):
            raise Failed(done.describe())


class Errors(Faults):
    name = "injected errors"
    asks = (
        "Each operation that changes a file fails: no space left (from there on), an input/output error, no permission. "
        "The run ends with exit code 1 and one line, the output is the old whole or the new whole, and going on succeeds."
    )

    @staticmethod
    def faults(operation):
        return ERRNO

    @staticmethod
    def check(stage, work, done):
        expect_clean(done)
