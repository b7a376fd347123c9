"""The program is killed at random moments."""

import random
import shutil
import time

from program import Failed
from scenarios import Stages


class Kills:
    name = "random kills"
    asks = (
        "A run on two threads is killed at a random moment, gone on with, killed again up to twice, and finished. The "
        "output is the old whole or the new whole after each; the end has the bytes of an undisturbed run."
    )
    count = 1000

    def __init__(self, setup):
        self.setup, self.stages = setup, Stages(setup)
        # More of them where most of the time goes to weights.
        names = [name for name in self.stages.scenarios if "copy" not in name]
        self.names = names + [name for name in names if "/parts-" in name] * 2

    def cases(self):
        for number in range(self.count):
            yield f"{self.names[number % len(self.names)]}/{number}"

    def run(self, case):
        name, number = case.rsplit("/", 1)
        rng = random.Random(f"{self.setup.seed} {case}")
        stage = self.stages[name]
        work = stage.work(case.replace("/", "-"))
        arguments = stage.scenario.arguments(self.setup, work)
        way = rng.choice(stage.scenario.ways_on)
        for _ in range(rng.choice((1, 1, 2, 3))):
            running = self.setup.start(*[text if text != "1" else "2" for text in arguments])
            time.sleep(rng.random() * stage.seconds)
            running.kill()
            done = running.wait()
            if done.code not in (0, -9) and "complete" not in done.err:
                raise Failed(done.describe())
            state = stage.expect_whole(work)
            arguments = stage.arguments_on(work, way)
        stage.expect_goes_on(work, way, state)
        shutil.rmtree(work)
