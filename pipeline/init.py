"""A project folder for one's own images: params with comments, stages, git and DVC; from what the images are seen to be."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml.comments import CommentedMap

from pipeline.planning import Plan, make_plan
from pipeline.project.class_spec import CLONE
from pipeline.project.commented import dumped, flow, round_trip
from pipeline.project.lineage import sync
from pipeline.project.validation import load_params
from pipeline.sources.vision.files import Files
from pipeline.sources.vision.gathering import read_labels
from pipeline.sources.vision.images import ENDINGS
from pipeline.sources.vision.proposal import Proposal, propose

FRAMES = (32, 48, 64, 96)  # pixels a side: more is seen in more, and more is computed
PASSES = 30  # of a teacher over its labelled rows, but so many updates at least and at most:
UPDATES = (300, 2000)
BATCH = 64
TRUNK = {"code": "pipeline/encoders/image.py", "class": "ImageEncoder"}
COMMENTS = {
    "labels": "of each task: a part, or a list of parts; `split: train`, val or test keeps a part in that split",
    "size": "height and width of the frame that every image is fitted into: multiples of 4",
    "how": "pad: the whole image; crop: its middle; stretch",
    "views": "rows an image has: itself, then augmentations of it",
    "val": "share of the images without a split of their own",
    "near": "how far apart images are that count as the same, 0 to 2; those are never in two splits",
    "flip": "whether a mirrored image is as good: not of text, or of signs",
    "skip_bad": "true: go on without labels and images that cannot be used, and list them",
}

DVC_CONFIG = """[core]
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,copy"
"""


def start(folder: Path, data: Path) -> tuple[Proposal, list[str], Plan]:
    """Make a project in a folder. data: where the images are. Returns what was seen, labels that are bad, the run's plan.

    Raises ValueError, and then leaves nothing behind.
    """
    if any((folder / name).exists() for name in ("params.yaml", "dvc.yaml")):
        raise ValueError(f"{folder}: has a params.yaml or dvc.yaml already; choose another folder, or remove them")
    if not data.is_dir():
        raise ValueError(f"{data}: no such folder; give the folder of your images with --data")
    fresh = not folder.exists()
    data = data.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    try:
        with contextlib.chdir(folder):
            near = data.is_relative_to(Path.cwd().parent)
            seen = propose(Path(os.path.relpath(data)) if near else data)
            check_places(seen)
            params, bad = first_params(seen)
            write(params)
            shutil.copyfile(CLONE / "dvc.yaml", "dvc.yaml")
            sync()
            params["prepare"]["shard_rows"] = make_plan(load_params(Path("params.yaml")), Path("data")).better_shard_rows
            write(params)
            plan = make_plan(load_params(Path("params.yaml")), Path("data"))
            under_version_control()
    except BaseException:
        for path in set(folder.iterdir()) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if fresh:
            folder.rmdir()
        raise
    return seen, bad, plan


def check_places(seen: Proposal) -> None:
    """Raises ValueError if a folder of images would hold the stores too, which then were a dependency of themselves."""
    here = Path.cwd()
    parts = [part for parts in (seen.labels | seen.unseen).values() for part in parts]
    named = [part[key] for part in parts for key in ("folder", "voc", "masks", "images") if key in part] + seen.unlabelled
    places = [Path(place).resolve() for place in named]
    around = [place for place in places if here.is_relative_to(place) or place == here / "data"]
    if around:
        raise ValueError(
            f"{around[0]}: images lie where a project's stores would; make the project in a folder that is not in this one, "
            f"with --data {around[0]}"
        )


def first_params(seen: Proposal) -> tuple[Any, list[str]]:
    """The clone's own params, of everything that is the same for all images; and labels that are bad."""
    params = round_trip().load((CLONE / "params.yaml").read_text())
    source = source_of(seen)
    built = Files(**{key: value for key, value in source.items() if key not in ("code", "class")}, seed=0)
    found, bad = read_labels(built.parts | built.unseen)
    rows = {
        task: learned_from(source, parts, [len(part.labels) for part in found[task]]) for task, parts in seen.labels.items()
    }
    batch = int(min(BATCH, 2 ** np.floor(np.log2(max(4, 0.7 * min(rows.values()))))))
    updates = {task: int(np.clip(PASSES * n // batch, *UPDATES) // 100 * 100) for task, n in rows.items()}
    params["prepare"]["source"] = commented(source)
    params["tasks"] = {task: flow(task_of(parts)) for task, parts in seen.labels.items()}
    params["teachers"] = {
        task: {
            "tasks": flow([task]),
            "encoder": flow({**TRUNK, "width": 96, "blocks": 2, "channels": 3}),
            "updates": updates[task],
        }
        for task in seen.labels
    }
    params["train_teacher"]["batch_size"] = params["distill"]["batch_size"] = batch
    del params["distill"]["logit_loss"]  # chosen on the demo's maps, untried on other images
    params["distill"]["encoder"] = flow({**TRUNK, "width": 32, "blocks": 2, "channels": 3})
    params["fusions"] = {name: params["fusions"][name] for name in ("none", "pca")}
    some = min(600, max(updates.values()))
    params["students"] = {
        "fused": flow({"reads": "pca", "updates": some, "weights": {"fused": 1, "logits": 3, "labels": 1}}),
        "logits": flow({"reads": "none", "updates": some, "weights": {"logits": 3, "labels": 1}}),
        "labels": flow({"reads": "transfer", "updates": some, "weights": {"labels": 1}}),
        "single": flow({"reads": "transfer", "updates": some, "weights": {"labels": 1}, "separate": True}),
    }
    held_out = source["val"] * sum(len(part.labels) for name in seen.unseen for part in found[name])
    if seen.unseen:
        params["evaluate"]["shots"] = flow([n for n in (5, 20, 50) if n <= held_out / 2] or [2])
    params["report"] |= {"baseline": "single", "strip": flow(["labels", "fused"])}
    return params, bad


def source_of(seen: Proposal) -> dict[str, Any]:
    labels = {task: settled(parts) for task, parts in seen.labels.items()}
    declared = [{part.get("split") for part in parts} for parts in labels.values()]
    source: dict[str, Any] = {"code": "pipeline/sources/vision/files.py", "class": "Files"}
    source["labels"] = {task: parts[0] if len(parts) == 1 else parts for task, parts in labels.items()}
    source |= {"unseen": {name: parts[0] for name, parts in seen.unseen.items()}} if seen.unseen else {}
    source |= {"unlabelled": seen.unlabelled} if seen.unlabelled else {}
    side = frame(next(iter(seen.labels.values()))[0])
    source |= {"size": [side, side], "how": "pad", "views": 2}
    source |= {name: 0.0 if all(name in one for one in declared) else share for name, share in (("val", 0.1), ("test", 0.2))}
    return source | {"near": 0.2, "flip": True, "skip_bad": False}


def settled(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Splits by the names of files, as they can be kept: without a test of its own, val is it; without both, all is drawn."""
    splits = {part.get("split") for part in parts}
    if "val" in splits and "test" not in splits:
        parts = [part | ({"split": "test"} if part.get("split") == "val" else {}) for part in parts]
    if len({part.get("split") for part in parts} - {"val"}) > 1:
        return parts
    return [{key: value for key, value in part.items() if key != "split"} for part in parts]


def learned_from(source: dict[str, Any], parts: list[dict[str, Any]], labels: list[int]) -> float:
    """About how many images a task has to learn from."""
    shares = {None: 1 - source["val"] - source["test"], "train": 1 - source["val"], "val": 0.0, "test": 0.0}
    return sum(n * shares[part.get("split")] for n, part in zip(labels, settled(parts), strict=True))


def frame(part: dict[str, Any]) -> int:
    """The largest frame that is no larger than most images are."""
    place = Path(part.get("images") or part["folder"])
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in ENDINGS)
    sizes = []
    for path in paths[:: max(1, len(paths) // 50)]:
        with contextlib.suppress(OSError), Image.open(path) as image:
            sizes.append(min(image.size))
    return max([side for side in FRAMES[:3] if sizes and side <= np.median(sizes)], default=FRAMES[0])


def task_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    classes, gives = len(parts[0]["classes"]), parts[0].get("gives")
    if gives == "classes":
        return {"code": "pipeline/tasks/multi_label.py", "class": "MultiLabel", "classes": classes}
    if gives == "boxes" or "voc" in parts[0]:
        return {"code": "pipeline/tasks/detection.py", "class": "Detection", "classes": classes, "stride": 4, "box_weight": 2}
    if gives == "masks" or "masks" in parts[0]:
        shape = {"classes": classes + 1, "upscale": 2, "background_weight": 0.3, "temperature": 2}
        return {"code": "pipeline/tasks/segmentation.py", "class": "Segmentation", **shape}
    return {"code": "pipeline/tasks/classification.py", "class": "Classification", "classes": classes, "temperature": 2}


def commented(source: dict[str, Any]) -> CommentedMap:
    made = CommentedMap({key: flow(value) if isinstance(value, list) else value for key, value in source.items()})
    for key in ("labels", "unseen"):
        if key in made:
            one = {
                name: flow(parts) if isinstance(parts, dict) else [flow(part) for part in parts]
                for name, parts in made[key].items()
            }
            made[key] = CommentedMap(one)
    for key, comment in COMMENTS.items():
        made.yaml_add_eol_comment(comment, key)
    return made


def write(params: Any) -> None:
    apart = re.sub(r"^( .*)\n(?=[a-z_]+:)", r"\1\n\n", dumped(params), flags=re.MULTILINE)  # ruamel drops blank lines
    Path("params.yaml").write_text(apart)


def under_version_control() -> None:
    """git and DVC, unless the folder is inside a repository of theirs already."""

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"`{' '.join(command)}` failed: {done.stderr or done.stdout}")

    above = [Path.cwd(), *Path.cwd().parents]
    root = next((path for path in above if (path / ".git").exists()), None)
    if root is None:
        run("git", "init", "-q")
        root = Path.cwd()
    if not any((path / ".dvc").is_dir() for path in above[: above.index(root) + 1]):
        run(sys.executable, "-m", "dvc", "init", "-q", *([] if root == Path.cwd() else ["--subdir"]))
        Path(".dvc/config").write_text(DVC_CONFIG)
    if not Path(".gitignore").exists():
        made = "/predictions/\n/exports/\n/dvc_plots/\n"
        # folders are walked: DVC looks for what it was told to import as git does
        Path(".gitignore").write_text(f"/data/**\n!/data/**/\n!/data/knowledge/*.dvc\n{made}")
