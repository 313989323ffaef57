import pytest
import torch

from pipeline.tasks.tagging import Tagging
from tests.laws import check_task

LABELS = torch.tensor([[0, 1, 2, 0, -1], [3, 0, -1, -1, -1], [1, 1, 0, 3, 4], [0, 0, -1, 0, 1]])
task = Tagging(kinds=["PER", "LOC"], temperature=2)


def saying(tags):
    return torch.nn.functional.one_hot(torch.as_tensor(tags).clamp(min=0), 5).float().transpose(1, 2) * 9


def test_laws():
    check_task(task, LABELS, grid=(5,))


def test_ignored_positions_count_nowhere():
    pred = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(0))
    other = torch.where((LABELS < 0)[:, None], 99.0, pred)
    torch.testing.assert_close(task.loss(pred, LABELS), task.loss(other, LABELS))
    assert task.summarize([task.tally(pred, LABELS)]) == task.summarize([task.tally(other, LABELS)])
    assert task.loss(pred, torch.full((4, 5), -1)).tolist() == [0, 0, 0, 0]


def test_only_whole_spans_count():
    assert task.summarize([task.tally(saying(LABELS), LABELS)]) == {"span_F1": 1}
    said = LABELS.clone()
    said[0, 2] = 0  # a name cut short: 1 of 6 spans is wrong, on both sides
    assert task.summarize([task.tally(saying(said), LABELS)])["span_F1"] == pytest.approx(5 / 6)
    assert task.summarize([task.tally(saying(torch.zeros_like(LABELS)), LABELS)]) == {"span_F1": 0}
    assert task.summarize([task.tally(saying(LABELS), torch.full((4, 5), -1))]) == {"span_F1": 0}


def test_answers_are_tags_in_words():
    assert task.answers(saying(LABELS))["tags"][0][:4] == ["O", "B-PER", "I-PER", "O"]
    assert task.truth(LABELS.numpy())["tags"][0] == ["O", "B-PER", "I-PER", "O", ""]
