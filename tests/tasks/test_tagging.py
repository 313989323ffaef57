import pytest
import torch
from seqeval.metrics import f1_score

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


def test_over_batches_it_is_the_f1_of_seqeval():
    generator = torch.Generator().manual_seed(0)
    label, said = (torch.randint(0, 5, (40, 12), generator=generator) for _ in range(2))
    said = torch.where(torch.rand(said.shape, generator=generator) < 0.7, label, said)
    label[torch.arange(12) >= torch.randint(0, 13, (40, 1), generator=generator)] = -1
    there = [int(n) for n in (label >= 0).sum(1)]
    true, found = ([row[:n] for row, n in zip(task.named(tags.numpy()), there, strict=True)] for tags in (label, said))
    tallies = [task.tally(saying(said[i : i + 10]), label[i : i + 10]) for i in range(0, 40, 10)]
    assert task.summarize(tallies)["span_F1"] == pytest.approx(f1_score(true, found))


def test_answers_are_tags_in_words():
    assert task.answers(saying(LABELS))["tags"][0][:4] == ["O", "B-PER", "I-PER", "O"]
    assert task.truth(LABELS.numpy())["tags"][0] == ["O", "B-PER", "I-PER", "O", ""]
