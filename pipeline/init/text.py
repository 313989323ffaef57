"""First params of a project for one's own texts: tasks from the columns that files are seen to have."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.init.beginning import Beginning, commented, first_params, four_students, set_sizes
from pipeline.project.commented import flow
from pipeline.sources.text.proposal import Proposal, propose
from pipeline.sources.text.records import ENDINGS
from pipeline.sources.text.text_files import TextFiles

LONGEST = 64  # words of a text that are read, at most
VOCABULARY = (500, 8000)  # tokens, at least and at most; else as many as there are words, over
OFTEN = 50
TOKENS = 128  # of a text that networks have places for, at least
PASSES = 12
ENCODER = {"code": "pipeline/encoders/text.py", "class": "TextEncoder", "input": "first"}
COMMENTS = {
    "files": "by split; also test/<name> for other tests, unseen/train and unseen/test",
    "text": "its column",
    "classes": "a column each; an empty cell is no label",
    "tags": "a column of tags, one a word; the last one of CoNLL files",
    "longest": "words of a text that are read",
    "vocabulary": "tokens, learnt; the same number is in every encoder",
    "val": "share of what is labelled that chooses, and",
    "test": "share that measures",
}


def begin(files: list[Path], data: Path) -> Beginning:
    """Tasks and networks as in examples/text, which also has these rates. files: those of `data`. Raises ValueError."""
    texts = [path for path in files if path.suffix in ENDINGS]
    if not texts:
        raise ValueError(f"{data}: no image, no table and no text ({', '.join(ENDINGS)}) below this folder")
    seen = propose(texts)
    source = source_of(seen)
    splits = TextFiles(**source, seed=0).splits()
    params = first_params()
    params["prepare"]["source"] = commented(
        {"code": "pipeline/sources/text/text_files.py", "class": "TextFiles", **source}, COMMENTS
    )
    params["tasks"] = {
        name: flow(task_of("classification", "Classification", classes=len(x))) for name, x in seen.classes.items()
    }
    params["tasks"] |= {name: flow(task_of("tagging", "Tagging", kinds=kinds)) for name, kinds in seen.tags.items()}
    longest = splits["transfer"].about["tokens_first"]["longest"]
    room = max(TOKENS, 32 * -(-3 * longest // 64))  # half as many more: of another seed other texts are learnt from
    encoder = ENCODER | {"vocabulary": source["vocabulary"], "longest": room}
    params["teachers"] = {
        name: {"tasks": flow([name]), "encoder": flow({**encoder, "width": 64, "layers": 2, "heads": 4})}
        for name in params["tasks"]
    }
    params["distill"]["encoder"] = flow({**encoder, "width": 32, "layers": 2, "heads": 2, "dropout": 0})
    params["train_teacher"] |= {"learning_rate": 0.002, "weight_decay": 0.05}
    params["distill"] |= {"learning_rate": 0.005, "weight_decay": 0.01}
    four_students(params, logits=1)
    bag = {"code": "pipeline/encoders/bag_of_words.py", "class": "BagOfWords", "input": "first", "width": 32}
    bag["vocabulary"] = source["vocabulary"]
    params["students"]["bag_of_words"] = flow({"reads": "transfer", "updates": 0, "weights": {"labels": 1}, "encoder": bag})
    set_sizes(params, {task: splits["transfer"].labelled[task].sum() for task in params["tasks"]}, PASSES)
    return Beginning(params, seen.said)


def source_of(seen: Proposal) -> dict[str, Any]:
    """Arguments of `TextFiles`."""
    source: dict[str, Any] = {"files": seen.files, "text": seen.text, "classes": seen.classes, "tags": seen.tags}
    source["longest"] = min(LONGEST, 16 * -(-int(np.quantile(seen.lengths, 0.98)) // 16))  # all rows are as wide as the widest
    source["vocabulary"] = int(np.clip(sum(seen.lengths) / OFTEN, *VOCABULARY)) // 100 * 100
    source["val"] = 0.0 if "val" in seen.files else 0.1
    source["test"] = 0.0 if "test/clean" in seen.files else 0.2
    return {key: value for key, value in source.items() if value}


def task_of(file: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"code": f"pipeline/tasks/{file}.py", "class": name, **arguments, "temperature": 2}
