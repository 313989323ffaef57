import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from pipeline.losses.loss import ABSENT
from pipeline.tasks.candidates import Score
from pipeline.tasks.rating import Rating, concordance
from pipeline.tasks.response import Response
from tests.laws import check_task

GENERATOR = torch.Generator().manual_seed(0)
RESPONSES = torch.stack([torch.randint(0, n, (6, 12), generator=GENERATOR) for n in (2, 40, 5)], 2).int()
STARS = torch.randint(0, 6, (6, 12), generator=GENERATOR).float()


def short(label):
    """The second list has three candidates."""
    cut = label.clone()
    cut[1, 3:, 0] = -1
    return cut


@pytest.mark.parametrize(
    ("task", "label"),
    [(Response(), RESPONSES), (Response(rate=0.1), short(RESPONSES)), (Rating(), STARS)],
    ids=["response", "sampled and short", "rating"],
)
def test_laws(task, label):
    check_task(task, label, grid=(12,))


def test_what_does_not_exist_scores_absent_and_teaches_nothing():
    head = Response().head(4, (3,))
    feature = torch.randn(2, 4, 3, generator=GENERATOR)
    feature[0, :, 2] = 0
    pred = head(feature)
    assert pred[0, 2] == ABSENT and (pred[1] != ABSENT).all()
    other = pred.detach().clone().requires_grad_()
    loss = Response().distill_loss(other, torch.tensor([[0.3, -1.0, ABSENT], [0.1, 0.2, 0.3]]))
    loss.sum().backward()
    assert other.grad[0, 2] == 0
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(pred[0, :2], torch.tensor([0.3, -1.0]).sigmoid())
    torch.testing.assert_close(loss[0], wanted)


def test_a_softmax_over_channels_is_one_over_candidates():
    assert Score(8, 0.0)(torch.randn(5, 8, 7)).shape == (5, 7)


def label_of(responses, items=None, categories=None):
    shape = torch.tensor(responses)
    items = torch.arange(shape.numel()).reshape(shape.shape) if items is None else torch.tensor(items)
    return torch.stack([shape, items, torch.tensor(categories) if categories else items], 2)


def test_ndcg_is_that_of_scikit_learn_and_counts_only_lists_with_a_response():
    rng = np.random.default_rng(1)
    response, pred = rng.integers(0, 2, (5, 30)), rng.standard_normal((5, 30))
    response[3] = 0
    found = Response().summarize([Response().tally(torch.tensor(pred), label_of(response.tolist()))])
    kept = [0, 1, 2, 4]
    assert found["NDCG@10"] == pytest.approx(ndcg_score(response[kept], pred[kept], k=10))


def test_metrics_of_lists_by_hand():
    """Of two lists of three: NDCG of a response at place 2 of 3; one pair of three alike; five of six items would reach."""
    label = label_of([[1, 0, 0], [0, 0, -1]], [[1, 2, 3], [4, 5, 9]], [[7, 7, 8], [7, 8, 8]])
    pred = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 5.0]])
    found = Response().summarize([Response().tally(pred, label)])
    assert found["NDCG@10"] == pytest.approx(1 / math.log2(3))
    assert found["diversity@10"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["coverage@10"] == 1  # what does not exist, item 9, is no item
    assert found["AUC"] == (0 + 1 + 1 + 0.5) / 4  # the response at 1 against 2, 0, 0 and 1


def test_coverage_counts_items_among_the_best_ten_over_all_batches():
    label = label_of([[1] + [0] * 11] * 2, [list(range(12)), list(range(12, 24))])
    pred = torch.arange(24.0).reshape(2, 12)
    task = Response()
    assert task.summarize([task.tally(pred[:1], label[:1]), task.tally(pred[1:], label[1:])])["coverage@10"] == 20 / 24


def test_auc_and_log_loss_are_over_all_candidates_that_exist():
    label, pred = label_of([[1, 0], [0, -1]]), torch.tensor([[0.0, 1.0], [-1.0, 9.0]])
    found = Response().summarize([Response().tally(pred, label)])
    assert found["AUC"] == 0.5  # above one of the two without a response
    assert found["log_loss"] == pytest.approx(sum(math.log(1 + math.exp(x)) for x in (0, 1, -1)) / 3)


def test_predictions_are_of_the_whole_where_negatives_were_sampled():
    """1 response in 5 shown; of the others a quarter is kept: in the sample half respond, the prediction is 1 in 5."""
    label = label_of([[1, 0]])
    task = Response(rate=0.25)
    pred = torch.full((1, 2), math.log(0.2 / 0.8)).requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(pred, label).sum(), pred)
    assert gradient.sum().abs() < 1e-6  # the best constant
    assert task.summarize([task.tally(pred.detach(), label)])["log_loss"] == pytest.approx(math.log(2), abs=1e-6)
    with pytest.raises(ValueError, match="rate: 0, expected above 0"):
        Response(rate=0)


def test_responses_alone_are_refused_and_their_lack_is_not():
    only = label_of([[1, 1], [1, -1]])
    assert Response().misfit(only, (2,)).startswith("every candidate has a response; give the source negatives")
    assert Response().misfit(label_of([[1, 1], [0, -1]]), (2,)) is None
    assert Response().misfit(label_of([[0, 0], [0, -1]]), (2,)) is None  # what is rare may be in other batches


def test_concordance_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(2)
    label, pred = rng.integers(1, 6, 60), np.round(rng.standard_normal(60), 1)
    right = pairs = 0.0
    for i in range(60):
        for j in range(60):
            if label[i] < label[j]:
                pairs += 1
                right += 1.0 if pred[i] < pred[j] else 0.5 if pred[i] == pred[j] else 0.0
    assert concordance(pred, label) == pytest.approx(right / pairs)
    assert concordance(np.ones(3), np.ones(3)) == 0.5


def test_rmse_and_loss_are_of_rated_candidates_alone():
    stars, pred = torch.tensor([[0.0, 4.0], [2.0, 0.0]]), torch.tensor([[9.0, 3.0], [4.0, 9.0]])
    assert Rating().summarize([Rating().tally(pred, stars)])["RMSE"] == pytest.approx(math.sqrt((1 + 4) / 2))
    assert Rating().loss(pred, stars).tolist() == [1, 4]


def test_stars_of_a_short_list_count_as_much_as_those_of_a_long_one():
    feature = torch.randn(2, 4, 3, generator=GENERATOR)
    feature[0, :, 1:] = 0
    pred = Rating().head(4, (3,))(feature).detach()
    assert pred[0, 1:].tolist() == [ABSENT, ABSENT] and (pred[1] > 0).all()
    teacher = torch.where(pred > 0, pred + 2, ABSENT)
    assert Rating().distill_loss(pred, teacher).tolist() == pytest.approx([4, 4])
    assert [len(places) for places in Rating().answers(pred)["list"]] == [1, 3]


def test_answers_are_the_best_candidates_and_truth_those_that_were():
    said = Response().answers(torch.tensor([[0.0, 2.0, ABSENT]]))["list"][0]
    assert [place for place, _ in said] == [1, 0] and said[1][1] == 0.5
    assert Response().truth(label_of([[1, 0, -1]]).numpy())["list"] == [[(0, None)]]
    assert Rating().truth(np.array([[0, 3.0, 5.0]]))["list"] == [[(2, 5.0), (1, 3.0)]]
