"""The gpu tier, `pytest -m gpu`: the small project of test_repro.py on an accelerator."""

import numpy as np
import pytest
import torch

from pipeline.batches.batches import input_fields, part, tensors
from pipeline.batches.pools import load
from pipeline.checkpoints import load_network
from pipeline.project.class_spec import CLONE, import_file
from pipeline.stores.store import open_store

pytestmark = pytest.mark.gpu

shared = import_file(CLONE / "tests" / "test_repro.py")
CPU, DEVICE = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_stage_runs_on_a_gpu_and_students_answer_as_on_a_cpu(tmp_path, precision):
    def change(params):
        shared.make_small(params)
        params["device"] = DEVICE.type
        params["train_teacher"]["precision"] = params["distill"]["precision"] = precision

    project = shared.begin(tmp_path / "project", change)
    assert len(shared.repro(project)) == 17
    assert open_store(project / "data/features/detection.zarr").identity["device"] == DEVICE.type
    val = open_store(project / "data/splits/val.zarr")
    rows = part(load(val, input_fields(val), slice(0, 20)), "inputs")
    for file in sorted((project / "data/students").glob("*/seed-*/*.safetensors")):
        here, there = (load_network(file, device)[0](tensors(rows, device)).logits for device in (CPU, DEVICE))
        for task, x in here.items():
            np.testing.assert_allclose(there[task].detach().cpu(), x.detach(), rtol=1e-2, atol=1e-2, err_msg=f"{file} {task}")
