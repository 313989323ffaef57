"""First params of a project for your own texts: tasks from the columns that their files have."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.init.draft import Draft, baseline, built, commented, first_params, set_sizes, students
from pipeline.init.text_columns import Proposal, propose
from pipeline.project.commented import flow
from pipeline.sources.text.records import ENDINGS
from pipeline.sources.vision.images import ENDINGS as IMAGES

LONGEST = 64  # words of a text that are read, at most; twice as many if most have one character
OFTEN = 50  # words of text for each token that is learned; at least and at most this many tokens:
VOCABULARY = (500, 8000)
ROOM = 128  # tokens of a text that networks have places for, at least
PASSES = 12  # of a teacher over its labelled rows
ENCODER = {"code": "pipeline/encoders/text.py", "class": "TextEncoder", "input": "first"}
BAG = {"code": "pipeline/encoders/bag_of_words.py", "class": "BagOfWords", "input": "first", "width": 32}
COMMENTS = {
    "files": "by split; also test/<name> for other tests, unseen/train and unseen/test",
    "text": "its column",
    "classes": "a column each; an empty cell is no label",
    "tags": "a column of tags, one per word; in CoNLL files the last one",
    "columns": "of labels whose column has another name",
    "longest": "words of a text that are read",
    "vocabulary": "tokens, learnt; the same number is in every encoder",
    "val": "share of what is labelled to choose by, and",
    "test": "share to measure by",
    "skip_bad": "true: go on without rows that cannot be used, and list them",
}


def draft(files: list[Path], data: Path) -> Draft:
    """Networks and rates as in examples/text. files: those of `data`. Raises ValueError."""
    texts = [path for path in files if path.suffix.lower() in ENDINGS]
    if not texts:
        raise ValueError(f"{data}: no image, no log and no text; texts are {', '.join(ENDINGS)}, images {', '.join(IMAGES)}")
    proposal = propose(texts, data)
    params, source = first_params(), source_of(proposal)
    text_files = built(source)
    records_by_split, bad = text_files.records()
    transfer = text_files.split(records_by_split["transfer"], text_files.learn(records_by_split["transfer"]))
    params["prepare"]["source"] = commented(source, COMMENTS)
    tasks = {
        name: task_of("classification", "Classification", classes=len(classes)) for name, classes in proposal.classes.items()
    }
    tasks |= {name: task_of("tagging", "Tagging", kinds=kinds) for name, kinds in proposal.tags.items()}
    params["tasks"] = {name: flow(task) for name, task in tasks.items()}
    longest = 1.5 * transfer.inputs["tokens_first"].shape[1]  # texts of other splits, or under another seed, may be longer
    encoder = {**ENCODER, "vocabulary": source["vocabulary"], "longest": max(ROOM, 32 * math.ceil(longest / 32))}
    params["teachers"] = {
        name: {"tasks": flow([name]), "encoder": flow({**encoder, "width": 64, "layers": 2, "heads": 4})}
        for name in params["tasks"]
    }
    params["distill"]["encoder"] = flow({**encoder, "width": 32, "layers": 2, "heads": 2, "dropout": 0})
    params["train_teacher"] |= {"learning_rate": 0.002, "weight_decay": 0.05}
    params["distill"] |= {"learning_rate": 0.005, "weight_decay": 0.01}
    updates = set_sizes(params, {task: transfer.labelled[task].sum() for task in params["tasks"]}, PASSES)
    params["students"] = students(updates, logits=1)
    params["students"]["bag_of_words"] = baseline(updates, **BAG, vocabulary=source["vocabulary"])
    cut_count = sum(length > source["longest"] for length in proposal.lengths)
    messages = (
        [f"longest: of {cut_count} of {len(proposal.lengths)} texts only the first {source['longest']} words are read"]
        if cut_count
        else []
    )
    return Draft(params, proposal.said + messages, bad)


def source_of(proposal: Proposal) -> dict[str, Any]:
    source: dict[str, Any] = {"code": "pipeline/sources/text/text_files.py", "class": "TextFiles"}
    source |= {"files": proposal.files, "text": proposal.text, "classes": proposal.classes, "tags": proposal.tags}
    source["columns"] = proposal.columns
    limit = LONGEST if proposal.letters > 2 else 2 * LONGEST
    # all rows are as wide as the widest
    source["longest"] = min(limit, 16 * math.ceil(np.quantile(proposal.lengths, 0.98) / 16))
    source["vocabulary"] = int(np.clip(sum(proposal.lengths) / OFTEN, *VOCABULARY)) // 100 * 100
    source |= {} if "val" in proposal.files else {"val": 0.1}
    source |= {} if "test/clean" in proposal.files else {"test": 0.2}
    return {key: value for key, value in source.items() if value} | {"skip_bad": False}


def task_of(file: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"code": f"pipeline/tasks/{file}.py", "class": name, **arguments, "temperature": 2}
