import numpy as np
import pytest
import torch
from torch import nn

from pipeline.evaluation.scoring import check_metrics, score
from pipeline.network import Network
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.tasks.classification import Classification


class Same(nn.Module):
    def forward(self, inputs):
        return {"tap": inputs["x"]}


@pytest.fixture
def network():
    made = Network(Same(), {"what": Classification(classes=3, temperature=1)}, {"x": torch.zeros(2, 3)})
    with torch.no_grad():
        made.heads["what"].score.weight.copy_(torch.eye(3).repeat(1, 2))
        made.heads["what"].score.bias.zero_()
    return made


@pytest.mark.parametrize(
    ("flags", "accuracy"), [(None, 4 / 8), ([1, 1, 1, 1, 0, 0, 0, 0], 1), ([0, 0, 1, 0, 0, 1, 0, 1], 1 / 3), ([0] * 8, None)]
)
def test_a_task_is_scored_on_the_rows_that_carry_its_label(tmp_path, network, flags, accuracy):
    label = np.arange(8) % 3
    arrays = {"inputs/x": np.eye(3, dtype=np.float32)[label], "labels/what": np.where(np.arange(8) < 4, label, (label + 1) % 3)}
    if flags:
        arrays["labelled/what"] = np.array(flags, bool)
    fields = {name: Field(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
    writer = StoreWriter(
        tmp_path / "s.zarr", np.zeros((8, 16), "u1"), np.arange(8, dtype="i4"), fields, identity={}, shard_rows=4
    )
    writer.write_rest(lambda rows: {name: x[rows] for name, x in arrays.items()})
    writer.publish()
    tasks = {"what": Classification(classes=3, temperature=1)}
    if not accuracy:
        with pytest.raises(ValueError, match="no row of this split carries a label of task 'what'"):
            score(network, tasks, open_store(tmp_path / "s.zarr"))
        return
    assert score(network, tasks, open_store(tmp_path / "s.zarr"))["what"]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"acuracy": 0.5}, "task 'what': Classification.summarize gives acuracy, but not its primary accuracy"),
        ({"accuracy": 0.5, "error": float("nan")}, "task 'what': its error is nan"),
    ],
)
def test_metrics_that_nobody_could_choose_by_are_refused(metrics, message):
    with pytest.raises(ValueError, match=message):
        check_metrics("what", Classification(classes=3, temperature=1), metrics)
