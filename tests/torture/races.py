"""Two runs at the same output, step by step: one is stopped before an operation while the other goes on."""

import random
import shutil
from dataclasses import dataclass

from models import write_model
from program import Failed, expect_clean, expect_success
from scenarios import digest

QUANTIZE = ("quantize", "{model}", "--output", "{out}", "--json", "--threads", "1", "--bits")
COPY = "COPY (SELECT name, channel, shape, weights FROM safetensors('{{model}}') WHERE {}) TO '{{out}}' STORED AS {}"


@dataclass(frozen=True)
class Race:
    """What is there before, the two runs, and the one that puts things right when both were broken off."""

    before: tuple
    interrupted: tuple
    first: tuple
    second: tuple
    mends: tuple
    # Of which of the two runs the mending one gives the bytes.
    mended: int = 1
    output: str = "out"


def copies(container):
    first, second = (("sql", COPY.format(which, container)) for which in ("name LIKE '%norm%'", "name LIKE '%_proj%'"))
    return Race((), (), first, second, second, output=f"out.{container.lower()}")


NEW, OLD = (*QUANTIZE, "4"), (*QUANTIZE, "8")
OTHER, REPLACE, RESUME = (*QUANTIZE, "3"), (*QUANTIZE, "3", "--overwrite"), (*QUANTIZE, "4", "--resume")
RACES = {
    "fresh-fresh": Race((), (), NEW, OTHER, REPLACE),
    "resume-resume": Race((), NEW, RESUME, RESUME, (*NEW, "--overwrite")),
    "overwrite-resume": Race((), NEW, REPLACE, RESUME, REPLACE, mended=0),
    "resume-overwrite": Race((), NEW, RESUME, REPLACE, REPLACE),
    "overwrite-overwrite": Race(OLD, (), (*NEW, "--overwrite"), REPLACE, REPLACE),
    "copy-copy-safetensors": copies("SAFETENSORS"),
    "copy-copy-gguf": copies("GGUF"),
}


class Races:
    name = "races"
    asks = (
        "Two runs write to one output: one is stopped before each of its operations in turn while the other runs to its "
        "end, or to an operation of its own; then the first goes on, or is killed. Each run succeeds or ends with one "
        "line; the output is the whole of one run; nothing is left beside it."
    )

    def __init__(self, setup):
        self.setup, self.ready = setup, {}
        write_model(setup.folder / "model", setup.seed, layers=1)

    def cases(self):
        for name in RACES:
            stage = self.stage(name)
            for step in range(1, stage.steps[0] + 1):
                rng = random.Random(f"{self.setup.seed} {name} {step}")
                yield f"{name}/{step}/whole/continues"
                yield f"{name}/{step}/whole/killed"
                yield f"{name}/{step}/{rng.randint(1, stage.steps[1])}/continues"

    def stage(self, name):
        if name not in self.ready:
            self.ready[name] = Stage(self.setup, name, RACES[name])
        return self.ready[name]

    def run(self, case):
        name, step, other, end = case.split("/")
        stage = self.stage(name)
        work = stage.work(case.replace("/", "-"))
        first, second = stage.commands(work)
        a = self.setup.start(*first, watch=work, at=int(step), fault="stop")
        b = None
        try:
            a.wait_for_stop()
            b = self.setup.start(*second, watch=work, at=0 if other == "whole" else int(other), fault="stop")
            # A run that waits for the other ends after it.
            b.wait_for_stop(5)
            finished = {"second": b.wait()} if b.state() == "Z" else {}
            a.kill() if end == "killed" else a.go_on()
            finished["first"] = a.wait()
            if "second" not in finished:
                b.go_on()
                finished["second"] = b.wait()
        finally:
            for running in filter(None, (a, b)):
                running.kill()
        stage.check(work, finished, end == "killed")
        shutil.rmtree(work)


class Stage:
    """A race made ready once."""

    def __init__(self, setup, name, race):
        self.setup, self.race, self.folder = setup, race, setup.folder / name
        self.before = self.folder / "before"
        self.before.mkdir(parents=True)
        self.old = None
        if race.before:
            expect_success(setup.run(*self.fill(race.before, self.before)), "the run before")
            self.old = digest(self.before / race.output)
        if race.interrupted:
            setup.run(*self.fill(race.interrupted, self.before), watch=self.before, at=20, fault="kill-before")
        self.steps, self.outputs = [], []
        for command in (race.first, race.second):
            work, log = self.work("alone"), self.folder / "log"
            log.unlink(missing_ok=True)
            expect_success(setup.run(*self.fill(command, work), watch=work, log=log), "the run alone")
            self.steps.append(len(log.read_text().splitlines()))
            self.outputs.append(digest(work / race.output))
            shutil.rmtree(work)

    def fill(self, command, work):
        places = {"{model}": str(self.setup.folder / "model"), "{out}": str(work / self.race.output)}
        for name, path in places.items():
            command = [text.replace(name, path) for text in command]
        return command

    def commands(self, work):
        return self.fill(self.race.first, work), self.fill(self.race.second, work)

    def work(self, name):
        work = self.folder / name
        shutil.copytree(self.before, work, symlinks=True)
        return work

    def check(self, work, finished, killed):
        for which, done in finished.items():
            if not (killed and which == "first"):
                expect_clean(done, f"the {which} run")
        done = [done.code == 0 for done in (finished["first"], finished["second"])]
        allowed = [output for output, succeeded in zip(self.outputs, done, strict=True) if succeeded]
        if killed:
            allowed.append(self.outputs[0])
        if not any(done):
            allowed.append(self.old)
        said = "; ".join(f"{which} {done.describe()}" for which, done in finished.items())
        if digest(work / self.race.output) not in allowed:
            raise Failed(f"the output is not the whole of one run that succeeded ({said})")
        if killed or not any(done):
            expect_success(self.setup.run(*self.fill(self.race.mends, work)), f"the run that follows ({said})")
            if digest(work / self.race.output) != self.outputs[self.race.mended]:
                raise Failed(f"the run that follows gives other bytes ({said})")
        beside = sorted(path.name for path in work.iterdir() if path.name != self.race.output)
        if beside:
            raise Failed(f"{', '.join(beside)} is left ({said})")
