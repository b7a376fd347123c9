"""Runs whose files are looked at: what is there before, the command, and how one goes on after it broke off."""

import hashlib
import shutil
import threading
from dataclasses import dataclass

import pyarrow.parquet as pq

from models import write_large_model, write_model
from program import Failed, expect_success

FORMATS = {
    "parquet": ["--format", "parquet"],
    "arrow": ["--format", "arrow"],
    "safetensors": ["--format", "safetensors"],
    "compressed-tensors": ["--format", "compressed-tensors", "--shard-size", "60kB"],
    "gguf": ["--format", "gguf", "--gguf-type", "Q4_K"],
}
# Two parts.
LARGE = {
    "parts-parquet": ["--method", "minmax"],
    "parts-compressed-tensors": ["--format", "compressed-tensors", "--method", "minmax"],
    "parts-gguf": ["--format", "gguf", "--gguf-type", "Q4_0"],
}
STATES = ["fresh", "resume", "overwrite", "overwrite-again"]


@dataclass(frozen=True)
class Scenario:
    """One command on one state of the folder that it works in."""

    name: str
    state: str
    command: tuple
    # What goes on after the command broke off: added to the command, one alternative after the other.
    ways_on: tuple
    output: str

    def arguments(self, setup, work, *more):
        places = {"{model}": setup.folder / "model", "{large}": setup.folder / "large", "{out}": work / self.output}
        text = [str(argument) for argument in self.command]
        for name, path in places.items():
            text = [argument.replace(name, str(path)) for argument in text]
        if text[0] == "sql":
            return text
        return [*text, "--threads", "1", "--json", *more]


def quantize(state, name, options):
    own = {"fresh": (), "resume": ("--resume",), "overwrite": ("--overwrite",), "overwrite-again": ("--overwrite",)}
    ways_on = ("--resume", "--overwrite") if state in ("fresh", "resume") else ("--overwrite",)
    model = "{large}" if name in LARGE else "{model}"
    command = ("quantize", model, "--output", "{out}", *options, *own[state])
    return Scenario(f"{state}/{name}", state, command, ways_on, "out")


def copy(state, container):
    query = "COPY (SELECT name, channel, shape, weights, data, dtype FROM safetensors('{model}')) TO '{out}' STORED AS "
    return Scenario(f"{state}/copy-{container}", state, ("sql", query + container.upper()), ("",), f"out.{container}")


def scenarios():
    found = [quantize(state, name, options) for state in STATES[:3] for name, options in FORMATS.items()]
    found += [quantize(STATES[3], name, FORMATS[name]) for name in ("parquet", "compressed-tensors")]
    found += [quantize(state, name, options) for state in STATES[:2] for name, options in LARGE.items()]
    found += [quantize("fresh", "equalized", ["--equalize", "weights"])]
    found += [quantize("fresh", "budget", ["--target-bpw", "4.5"])]
    found += [copy(state, container) for state in ("fresh", "overwrite") for container in ("safetensors", "gguf")]
    return {scenario.name: scenario for scenario in found}


def without_seconds(path):
    """The report's content, but for what the clock says."""
    table = pq.read_table(path).drop_columns(["seconds"])
    return repr(table.to_pydict()).encode()


def digest(path):
    """Digests of everything at a path, by name; None where there is nothing."""
    if not path.exists() and not path.is_symlink():
        return None
    if not path.is_dir():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    found = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_dir():
            found[name] = "folder"
            continue
        try:
            content = without_seconds(file) if file.name == "report.parquet" else file.read_bytes()
        except Exception as error:
            found[name] = f"cannot be read: {error}"
            continue
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def difference(found, meant):
    """In what two digests differ, in a few words."""
    if found is None or meant is None:
        return "absent" if found is None else "there"
    names = sorted(name for name in found.keys() | meant.keys() if found.get(name) != meant.get(name))
    what = [
        f"{name} {'missing' if name not in found else 'too many' if name not in meant else 'differs'}" for name in names
    ]
    return ", ".join(what[:4]) + (f" and {len(what) - 4} more" if len(what) > 4 else "")


class Stage:
    """A scenario made ready once: the state before, the operations of the command, and what they lead to."""

    def __init__(self, setup, scenario):
        self.setup, self.scenario = setup, scenario
        self.folder = setup.folder / "stages" / scenario.name
        self.before = self.folder / "before"
        self.before.mkdir(parents=True)
        self._prepare()
        self.old = digest(self.before / scenario.output)
        done, self.operations, self.seconds = self._undisturbed(reads=False)
        self.new = done
        if self.new == self.old:
            raise Failed(f"{scenario.name}: the old and the new output are the same")

    def _prepare(self):
        setup, scenario, before = self.setup, self.scenario, self.before
        fresh = [text for text in scenario.arguments(setup, before) if text not in ("--resume", "--overwrite")]
        if scenario.state in ("resume", "overwrite-again"):
            kill = self._middle(fresh)
        if scenario.state in ("overwrite", "overwrite-again"):
            old = list(fresh)
            if old[0] == "sql":
                old[1] = old[1].replace(")) TO", ") WHERE name LIKE '%norm%') TO")
            else:
                old += ["--exclude", "v_proj|layers.3.w"]
            expect_success(setup.run(*old), f"{scenario.name}: the run before")
        if scenario.state == "resume":
            setup.run(*fresh, watch=before, at=kill, fault="kill-before")
        if scenario.state == "overwrite-again":
            setup.run(*fresh, "--overwrite", watch=before, at=kill, fault="kill-before")

    def _middle(self, arguments):
        """The number of an operation in the middle of the command on an empty folder."""
        work = self.folder / "middle"
        work.mkdir()
        arguments = [text.replace(str(self.before), str(work)) for text in arguments]
        count = len(self._operations(arguments, work)[1])
        shutil.rmtree(work)
        return count * 3 // 5

    def _operations(self, arguments, work, reads=False):
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        done = self.setup.run(*arguments, watch=work, log=log, reads=reads)
        expect_success(done, f"{self.scenario.name}: the undisturbed run")
        lines = log.read_text().splitlines() if log.exists() else []
        return done, [line.replace(str(work), "").split("\t") for line in lines]

    def _undisturbed(self, reads):
        work = self.work("undisturbed")
        done, operations = self._operations(self.scenario.arguments(self.setup, work), work, reads)
        new, beside = digest(work / self.scenario.output), self.beside(work)
        if beside:
            raise Failed(f"{self.scenario.name}: the undisturbed run leaves {beside}")
        shutil.rmtree(work)
        return new, operations, done.seconds

    def work(self, name):
        """A folder in the state before, for one trial."""
        work = self.folder / name
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.before, work, symlinks=True)
        return work

    def beside(self, work):
        """Names that are in the folder beside the output."""
        return sorted(path.name for path in work.iterdir() if path.name != self.scenario.output)

    def expect_whole(self, work):
        """Checks that the output is absent where it was, or the old whole, or the new whole; says which."""
        found = digest(work / self.scenario.output)
        if found == self.new:
            return "new"
        if found == self.old:
            return "old"
        if found is None:
            raise Failed("the old output is gone, and the new one is not in its place")
        against = self.new if self.old is None else self.old
        raise Failed(f"the output is neither the old nor the new whole: {difference(found, against)}")

    def expect_goes_on(self, work, way, state):
        """Checks that the way on leads to the new whole, with nothing beside it."""
        done = self.setup.run(*self.arguments_on(work, way))
        if not (way == "--resume" and state == "new" and done.code == 1 and "complete" in done.err):
            expect_success(done, f"going on by {way or 'the same command'}")
        found = digest(work / self.scenario.output)
        if found != self.new:
            raise Failed(f"going on by {way or 'the same command'} gives other bytes: {difference(found, self.new)}")
        if self.beside(work):
            raise Failed(f"going on by {way or 'the same command'} leaves {', '.join(self.beside(work))}")

    def arguments_on(self, work, way):
        arguments = self.scenario.arguments(self.setup, work)
        return [text for text in arguments if text not in ("--resume", "--overwrite")] + ([way] if way else [])


class Stages:
    """The scenarios by name, each made ready when it is first asked for."""

    def __init__(self, setup):
        self.setup, self.scenarios = setup, scenarios()
        if setup.scenarios:
            self.scenarios = {name: self.scenarios[name] for name in setup.scenarios}
        self.ready, self.lock = {}, threading.Lock()

    def __getitem__(self, name):
        with self.lock:
            if not (self.setup.folder / "model").exists():
                write_model(self.setup.folder / "model", self.setup.seed)
                write_large_model(self.setup.folder / "large", self.setup.seed)
            if name not in self.ready:
                self.ready[name] = Stage(self.setup, self.scenarios[name])
            return self.ready[name]
