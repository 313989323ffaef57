"""Made-up motion sensors, three axes over time: what is done, when it jolts, and at what tempo."""

from typing import Any, final

import numpy as np

from pipeline.sources.source import Answer, Arrays, Source, Split, content_ids

AXES, TIME = 3, 128
WAVES = (np.sin, lambda x: np.sign(np.sin(x)), lambda x: x / np.pi % 2 - 1)  # walk, limp, run
TASKS = ("activity", "jolts")


@final
class Motion(Source):
    """labelled: {task: signals with its labels and no others}; unlabelled, val, test, unseen: signals of each."""

    def __init__(self, *, labelled: dict[str, int], unlabelled: int, val: int, test: int, unseen: int, seed: int):
        self.labelled, self.sizes, self.seed = labelled, {"val": val, "test/clean": test, "unseen/train": unseen}, seed
        self.owners = np.repeat([*labelled, ""], [*labelled.values(), unlabelled])

    def splits(self) -> dict[str, Split]:
        splits = {name: self.compose(name, np.full(n, "all")) for name, n in self.sizes.items()}
        splits["unseen/test"] = self.compose("unseen/test", np.full(self.sizes["test/clean"], "all"))
        splits["test/noisy"] = self.compose("test/clean", np.full(self.sizes["test/clean"], "all"), noise=0.8)
        return splits | {"transfer": self.compose("transfer", np.random.default_rng(self.seed).permutation(self.owners))}

    def preview(self) -> tuple[int, Split]:
        return len(self.owners), self.compose("transfer", np.array([*self.labelled, ""] * 4))

    def compose(self, name: str, owners: np.ndarray, noise: float = 0.3) -> Split:
        """owners: the task whose label each row carries; "all": everything, and for unseen rows the tempo."""
        rng, rows = np.random.default_rng([self.seed, *name.encode()]), len(owners)
        activity, tempo = rng.integers(0, len(WAVES), rows), rng.uniform(2, 6, rows)
        phase = 2 * np.pi * (tempo[:, None, None] * np.arange(TIME) / TIME + rng.random((rows, AXES, 1)))
        signal = np.stack([WAVES[kind](p) for kind, p in zip(activity, phase, strict=True)])
        start, length = rng.integers(0, TIME, (rows, 1)), rng.integers(8, 32, (rows, 1))
        jolts = (np.arange(TIME) >= start) & (np.arange(TIME) < start + length)
        signal += rng.normal(0, noise, signal.shape) + jolts[:, None] * rng.normal(0, 1.2, signal.shape)
        has = {task: (owners == task) | (owners == "all") for task in TASKS}
        labels = {
            "activity": np.where(has["activity"], activity, -1),
            "jolts": (jolts & has["jolts"][:, None]).astype(np.uint8),
        }
        if name.startswith("unseen"):
            labels["tempo"], has["tempo"] = tempo.astype(np.float32), np.ones(rows, bool)
        x = signal.astype(np.float32)
        return Split({"signal": x}, labels, has, np.zeros(rows, np.int32), content_ids(x))

    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        """Another strength on each axis: what is done, and when, stays."""
        x = inputs["signal"]
        return {"signal": x * rng.uniform(0.8, 1.25, (*x.shape[:2], 1)).astype(np.float32)}, labels

    def draw(self, axis: Any, inputs: Arrays, answer: Answer) -> None:
        axis.plot(inputs["signal"].T, linewidth=0.6)
        for first, end in answer.get("jolts", {}).get("spans", []):
            axis.axvspan(first, end, alpha=0.3, color="black")
        axis.set_xlabel(" ".join(map(str, answer.get("activity", {}).get("classes", []))), fontsize=8)
