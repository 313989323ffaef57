"""The demo's claims over fresh data seeds: every arm a student of a project like the root's, run by `dvc repro`.

    python bench/demo.py run SEED...    # resumes: an arm whose JSON lies in bench/demo/ is not run again
    python bench/demo.py table          # bench/demo.md from the JSONs

Each data seed is a project folder in bench/.work with its own data, teachers and students. Nothing is selected: weights
are those of the last update, and every number in params was fixed on other seeds (LOG.md).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import yaml

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "demo"
PCA = {"code": "pipeline/fusions/pca.py", "class": "PCA", "dims": 64}
FUSED, LOGITS, LABELS = {"fused": 1, "logits": 1, "labels": 1}, {"logits": 1, "labels": 1}, {"labels": 1}
FEW, TWO = {"labelled_share": 0.1667}, {"tasks": ["classification", "detection"]}

FUSIONS = {
    "pca_cls_det": {**PCA, "teachers": ["classification", "detection"]},
    "pca_det": {**PCA, "teachers": ["detection"]},
}
ARMS = {
    "labels_600": {"reads": "transfer", "updates": 600, "weights": LABELS},
}
