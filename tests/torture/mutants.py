"""Damaged files for every reader."""

import json
import random
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models import write_model
from mutations import mutate
from program import ROOT, Failed, expect_clean, expect_success
from scenarios import FORMATS, digest

sys.path.insert(0, str(ROOT / "fuzz"))
import seeds

EACH = 3000
SECONDS = 20
# What a run may allocate on files of a few hundred kilobytes; one that asks for more is ended by the allocator.
MEMORY = 256 << 20
QUERY = """
SELECT count(*), count(DISTINCT data), max(cosine_similarity(weights, weights)), sum(octet_length(name)) FROM m;
SELECT name, avg(sqnr(weights, quantize(weights, 3))) FROM m GROUP BY name
"""


def activations(names, rng):
    rows = [
        {
            "name": name,
            "timestep": float(step),
            "tokens": 4,
            "channel_min": -np.abs(rng.standard_normal(256, np.float32)),
            "channel_max": np.abs(rng.standard_normal(256, np.float32)),
            "channel_mean_square": rng.random(256, np.float32),
        }
        for name in names
        for step in range(4)
    ]
    lists = [(f"channel_{what}", pa.list_(pa.float32())) for what in ("min", "max", "mean_square")]
    return pa.Table.from_pylist(
        rows, pa.schema([("name", pa.string()), ("timestep", pa.float64()), ("tokens", pa.int64()), *lists])
    )


def hessians(names, rng):
    triangles = []
    for _ in names:
        inputs = rng.standard_normal((512, 256))
        triangles.append((inputs.T @ inputs / 512)[np.triu_indices(256)].astype(np.float32))
    columns = {"name": names, "tokens": pa.array([512] * len(names), pa.int64())}
    return pa.table({**columns, "hessian": pa.array(triangles, pa.list_(pa.float32()))})


class Readers:
    """One valid thing of each kind, which is then damaged."""

    def __init__(self, setup):
        self.setup, self.folder = setup, setup.folder / "valid"
        self.model = write_model(setup.folder / "model", setup.seed, layers=1)
        self.names = [f"model.layers.0.{name}_proj.weight" for name in ("self_attn.q", "self_attn.o", "mlp.down")]
        self.valid = {name: make() for name, make in self.makers().items()}

    def makers(self):
        return {
            "safetensors": self.safetensors,
            "gguf": self.gguf,
            "own": self.own,
            "tables": self.tables,
            "unfinished": self.unfinished,
        }

    def place(self, *parts):
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def quantized(self, name, *options):
        out = self.place(name)
        done = self.setup.run("quantize", self.model, "--output", out, "--json", *options)
        expect_success(done, f"making {name}")
        return out

    def safetensors(self):
        found = [self.model, self.quantized("packed", *FORMATS["compressed-tensors"])]
        for name, content in seeds.valid_safetensors().items():
            path = self.place("safetensors", name, "model.safetensors")
            path.write_bytes(content)
            found.append(path)
        return found

    def gguf(self):
        found = [self.quantized("gguf", *FORMATS["gguf"]) / "model.gguf"]
        for name, content in seeds.valid_gguf().items():
            path = self.place("ggufs", name, "model.gguf")
            path.write_bytes(content)
            found.append(path)
        return found

    def own(self):
        equalized = ("--equalize", "weights")
        return [
            self.quantized("parquet", *FORMATS["parquet"]),
            self.quantized("arrow", *FORMATS["arrow"]),
            self.quantized("arrow-3", *FORMATS["arrow"], "--bits", "3", "--symmetric"),
            self.quantized("equalized", *equalized),
        ]

    def tables(self):
        rng = np.random.default_rng(self.setup.seed)
        found = []
        for name, table in (("activations", activations), ("hessians", hessians)):
            path = self.place("tables", f"{name}.parquet")
            pq.write_table(table(self.names, rng), path, compression="none" if name == "hessians" else "snappy")
            found.append(path)
        return found

    def unfinished(self):
        found = []
        for name, options in FORMATS.items():
            out, log = self.place("unfinished", name, "out"), self.setup.folder / "log"
            command = ("quantize", self.model, "--output", out, "--json", "--threads", "1", *options)
            log.unlink(missing_ok=True)
            self.setup.run(*command, watch=out.parent, log=log)
            steps = len(log.read_text().splitlines())
            shutil.move(out, self.place("whole", name))
            self.setup.run(*command, watch=out.parent, at=steps * 4 // 5, fault="kill-before")
            found.append((out.parent, options, self.place("whole", name)))
        return found


class Mutants:
    name = "mutated files"
    asks = (
        "Files with bits turned, pieces cut out, put in or repeated, extreme numbers and JSON that lies are read: "
        "safetensors, GGUF, own folders, tables of activations and Hessians, and unfinished outputs that are gone on with. "
        "The program succeeds or ends with one line, within 20 s and 256 MB; what is gone on with has the tensors "
        "of an undisturbed run, or is refused."
    )

    def __init__(self, setup):
        self.setup, self.readers = setup, Readers(setup)

    def cases(self):
        for name in self.readers.valid:
            for number in range(EACH):
                yield f"{name}/{number}"

    def run(self, case):
        reader, _ = case.split("/")
        rng = random.Random(f"{self.setup.seed} {case}")
        valid = rng.choice(self.readers.valid[reader])
        work = self.setup.folder / "trials" / case.replace("/", "-")
        work.mkdir(parents=True)
        try:
            if reader == "unfinished":
                self.resume(work, *valid, rng)
            elif reader == "tables":
                self.table(work, valid, rng)
            else:
                self.read(work, valid, rng)
        finally:
            shutil.rmtree(work)

    def read(self, work, valid, rng):
        damaged = work / valid.name
        shutil.copytree(valid, damaged) if valid.is_dir() else shutil.copy(valid, damaged)
        files = sorted(path for path in damaged.rglob("*") if path.is_file()) if valid.is_dir() else [damaged]
        file = rng.choice(files)
        mutate(file, rng)
        read = [
            ("quantize", damaged, "--output", work / "out", "--json", *rng.choice(list(FORMATS.values()))),
            ("inspect", damaged),
            ("compare", valid, damaged),
            ("sql", QUERY, "--table", f"m={damaged}"),
        ]
        command = rng.choices(read, (4, 1, 2, 2))[0]
        self.expect_clean(command, f"{command[0]} of a damaged {file.name} of {valid.parent.name}")

    def table(self, work, valid, rng):
        damaged = work / valid.name
        shutil.copy(valid, damaged)
        mutate(damaged, rng)
        more = rng.choice(((), ("--equalize", "0.5"))) if valid.stem == "activations" else ()
        command = (
            "quantize",
            self.readers.model,
            f"--{valid.stem}",
            damaged,
            "--output",
            work / "out",
            "--json",
            *more,
        )
        self.expect_clean(command, f"quantize with damaged {valid.name}")

    def resume(self, work, valid, options, whole, rng):
        shutil.copytree(valid, work, dirs_exist_ok=True)
        file = rng.choice(sorted(path for path in work.rglob("*") if path.is_file() and path.stat().st_size > 0))
        mutate(file, rng)
        command = ("quantize", self.readers.model, "--output", work / "out", "--json", "--resume", *options)
        what = f"--resume with a damaged {file.relative_to(work)}"
        done = self.expect_clean(command, what)
        if done.code == 0 and digest(work / "out") != digest(whole):
            # Some bytes of a part say nothing to its reader; the tensors must be the same.
            done = self.setup.run("compare", whole, work / "out", "--json", "--threads", "1")
            tensors = json.loads(done.out)["tensors"] if done.code == 0 else [{"difference": done.describe()}]
            if changed := [tensor for tensor in tensors if tensor["difference"] != "identical"]:
                raise Failed(f"{what} succeeds and gives another output: {changed[0]}")
        if done.code != 0 and (work / "out").exists():
            raise Failed(f"{what} fails and leaves an output: {done.describe()}")

    def expect_clean(self, command, what):
        threads = () if command[0] == "inspect" else ("--threads", "1")
        done = self.setup.run(*command, *threads, timeout=SECONDS, memory=MEMORY)
        expect_clean(done, what)
        return done
