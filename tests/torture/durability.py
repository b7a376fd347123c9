"""What is on the disk when the output gets its name: read from the operations of an undisturbed run."""

from program import Failed
from scenarios import Stages


class Durability:
    name = "order on the disk"
    asks = (
        "Of each run the operations are followed: when the output gets its name, all that was written to its files has "
        "been synced, and so have its folders; the folder above is synced afterwards. So a loss of power leaves no "
        "output that looks whole and is not."
    )

    def __init__(self, setup):
        self.stages = Stages(setup)

    def cases(self):
        yield from self.stages.scenarios

    def run(self, case):
        stage = self.stages[case]
        output = f"/{stage.scenario.output}"
        unsynced, named = {}, False
        for _, operation, path, source in stage.operations:
            folder = path.rsplit("/", 1)[0] or "/"
            if operation == "sync":
                unsynced.pop(path or "/", None)
            elif operation in ("rename", "link"):
                moved = {at: what for at, what in unsynced.items() if at == source or at.startswith(f"{source}/")}
                if path == output:
                    named = True
                    if moved:
                        at, what = next(iter(moved.items()))
                        raise Failed(f"{len(moved)} not synced when {source} becomes {path}, such as {at} ({what})")
                for at, what in moved.items():
                    del unsynced[at]
                    unsynced[path + at[len(source) :]] = what
                unsynced[folder] = f"{operation} to {path}"
            elif operation == "unlink":
                unsynced = {at: what for at, what in unsynced.items() if at != path and not at.startswith(f"{path}/")}
            elif operation in ("create", "mkdir", "write", "copy", "truncate"):
                unsynced[path if operation in ("write", "copy", "truncate") else folder] = f"{operation} {path}"
        if not named:
            raise Failed("the output is not given its name")
        if unsynced.get("/", "").startswith(("rename", "link")):
            raise Failed(f"the folder above is not synced after the {unsynced['/']}")
