"""Runs `arrow-quant`, undisturbed or with the shim preloaded that lets one file operation go wrong."""

import contextlib
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ERRNO = {"EIO": 5, "EACCES": 13, "ENOSPC": 28}


class Failed(Exception):
    """What did not hold, in one line; of how many things that were tried, where a case tries several."""

    def __init__(self, message, tried=1, failed=1):
        super().__init__(message)
        self.tried, self.failed = tried, failed


@dataclass
class Done:
    """How a run ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def errors(self):
        """The lines of standard error."""
        return [line for line in self.err.split("\n") if line.strip()]

    def describe(self):
        if self.code < 0:
            how = f"ended by {signal.Signals(-self.code).name}"
        else:
            how = f"exit {self.code}"
        return f"{how}: {' / '.join(self.errors)[:300]}"


def expect_clean(done, what="the run"):
    """Checks that a run succeeded, or failed with one line."""
    if done.code == 0:
        return
    if done.code not in (1, 2):
        raise Failed(f"{what} neither succeeds nor fails cleanly: {done.describe()}")
    if len(done.errors) != 1 or not done.errors[0].startswith("error: "):
        raise Failed(f"{what} prints other than one line: {done.describe()}")
    if not done.errors[0].isprintable():
        raise Failed(f"{what} prints control characters: {done.describe()!r}")


def expect_success(done, what):
    if done.code != 0:
        raise Failed(f"{what} fails: {done.describe()}")


@dataclass
class Setup:
    """What all trials share: where they work, and with what."""

    folder: Path
    seed: int
    binary: Path = field(
        default_factory=lambda: Path(os.environ.get("ARROW_QUANT", ROOT / "target/release/arrow-quant")).resolve()
    )
    # Those that are tried; all where there are none.
    scenarios: tuple = ()

    def __post_init__(self):
        self.folder = Path(self.folder).resolve()
        self.shim = self.folder / "shim.so"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(self.shim), str(HERE / "shim.c"), "-ldl"]
        subprocess.run(command, check=True)
        self.version = self.run("--version").out.strip()

    def start(self, *arguments, watch=None, at=None, fault=None, lasts=False, reads=False, log=None, memory=None):
        """Starts the program. `watch` is the folder whose operations count; `at` is the one that goes wrong; `memory` is
        what it may allocate."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TORTURE_")}
        if watch is not None:
            environment |= {"LD_PRELOAD": str(self.shim), "TORTURE_FOLDER": str(watch)}
            environment |= {"TORTURE_AT": str(at), "TORTURE_FAULT": str(ERRNO.get(fault, fault))} if at else {}
            environment |= {"TORTURE_LOG": str(log)} if log else {}
            environment |= {name: "1" for name, on in (("TORTURE_LASTS", lasts), ("TORTURE_READS", reads)) if on}
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        command = [str(self.binary), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        if memory:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
        return Running(process, out, err)

    def run(self, *arguments, timeout=60, **options):
        """Runs the program to its end; see `start`."""
        return self.start(*arguments, **options).wait(timeout)


class Running:
    """A process that was started."""

    def __init__(self, process, out, err):
        self.process, self.out, self.err, self.started = process, out, err, time.monotonic()

    def wait(self, timeout=60):
        """Waits for its end. A process that takes longer is killed, and that is a failure."""
        code = self._wait(timeout)
        text = []
        for file in (self.out, self.err):
            file.seek(0)
            text.append(file.read().decode(errors="replace"))
            file.close()
        return Done(code, *text, time.monotonic() - self.started)

    def state(self):
        """The letter of the system: T is stopped, Z has ended."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]

    def wait_for_stop(self, timeout=60):
        """Waits until it has stopped before an operation, or has ended."""
        deadline = time.monotonic() + timeout
        while self.state() not in "TZ" and time.monotonic() < deadline:
            time.sleep(0.001)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        """Kills it, if it has not ended."""
        if self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)

    def _wait(self, timeout):
        handle = os.pidfd_open(self.process.pid)
        try:
            ended, _, _ = select.select([handle], [], [], max(0, self.started + timeout - time.monotonic()))
        finally:
            os.close(handle)
        if not ended:
            self.kill()
        self.process.wait()
        if not ended:
            raise Failed(f"hangs: no end after {timeout} s")
        return self.process.returncode
