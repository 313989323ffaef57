"""A foreign detector's and a foreign segmenter's outputs as logits of our tasks, against hand-made outputs and real models."""

from types import SimpleNamespace

import pytest
import torch
import transformers

from pipeline.checkpoints import build_network, load_network, save_network
from pipeline.encoders.huggingface import HuggingFace
from pipeline.project.class_spec import ClassSpec
from pipeline.tasks.detection import Detection
from pipeline.tasks.segmentation import Segmentation
from pipeline.to_logits.class_map import ClassMap
from pipeline.to_logits.set_of_boxes import SetOfBoxes

CPU = torch.device("cpu")
DETECTION = Detection(classes=3, stride=4, box_weight=2)
SEGMENTATION = Segmentation(classes=3, upscale=2, background_weight=0.3, temperature=2)
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic", "out_features": ["stage2"]}
WIDTHS = {"layers": 1, "attention_heads": 2, "ffn_dim": 8}
DETR = transformers.DetrConfig(
    use_timm_backbone=False,
    backbone_config=transformers.ResNetConfig(**RESNET),
    d_model=8,
    num_queries=5,
    num_labels=4,
    **{
        f"{part}_{key}": n
        for part in ("encoder", "decoder")
        for key, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 8))
    },
)
SEGFORMER = transformers.SegformerConfig(
    num_labels=5,
    num_encoder_blocks=2,
    depths=[1, 1],
    sr_ratios=[2, 1],
    hidden_sizes=[8, 12],
    patch_sizes=[7, 3],
    strides=[4, 2],
    num_attention_heads=[1, 2],
    mlp_ratios=[2, 2],
    decoder_hidden_size=8,
)
IMAGES = {"image": torch.randint(0, 256, (2, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}
NORMALISED = {"mean": [0.5] * 3, "std": [0.2] * 3, "size": [32, 32]}
HUGGINGFACE = {"code": "pipeline/encoders/huggingface.py", "class": "HuggingFace", **NORMALISED}
SHAPES = {"image": [[1, 24, 24], "uint8"]}


def boxes(*found, queries=6, classes=4):
    """A detector's outputs on one image of 24 x 24: (class, probability, x0, y0, x1, y1) each."""
    logits, pred_boxes = torch.full((1, queries, classes + 1), -20.0), torch.full((1, queries, 4), 0.5)
    logits[..., -1] = 0
    for query, (kind, probability, x0, y0, x1, y1) in enumerate(found):
        logits[0, query, kind] = torch.tensor(probability / (1 - probability)).log()
        pred_boxes[0, query] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / 24
    return SimpleNamespace(logits=logits, pred_boxes=pred_boxes)


def test_boxes_come_out_of_our_decoder_as_they_went_in():
    found = [(1, 0.9, 2, 3, 9, 12), (3, 0.7, 12, 10, 22, 21)]
    logits = SetOfBoxes(task=DETECTION, labels={"0": 1, 1: 0, 3: 2})(boxes(*found), (24, 24))
    assert logits.shape == (1, 3 + 4, 6, 6)
    score, kind, box = DETECTION.decode(logits)
    for place, (ours, (_, probability, *corners)) in enumerate(zip((0, 2), found, strict=True)):
        assert kind[0, place] == ours
        assert score[0, place].item() == pytest.approx(probability, abs=1e-4)
        assert torch.allclose(box[0, place], torch.tensor(corners).float(), atol=1e-3)
    assert score[0, 2] < 1e-3


def test_a_box_is_right_in_the_cells_beside_its_centre_too():
    logits = SetOfBoxes(task=DETECTION, labels={0: 0, 1: 1, 2: 2})(boxes((1, 0.9, 2, 3, 9, 12)), (24, 24))
    x, y, w, h = logits[0, 3:, 1, 2]  # the centre is in column 1, line 1
    assert (2 + x).item() * 4 == pytest.approx(5.5, abs=1e-3) and (1 + y).item() * 4 == pytest.approx(7.5, abs=1e-3)
    assert w.exp().item() * 4 == pytest.approx(7, abs=1e-3) and h.exp().item() * 4 == pytest.approx(9, abs=1e-3)


def test_classes_of_theirs_that_are_one_of_ours_add_up_and_others_are_nothing():
    raw = boxes((0, 0.5, 2, 3, 9, 12))
    raw.logits[0, 0] = torch.tensor([0.2, 0.3, 0.4, 0.05, 0.05]).log()
    logits = SetOfBoxes(task=DETECTION, labels={0: 0, 1: 0, 3: 1, 2: 2})(raw, (24, 24))
    assert logits[0, :3, 1, 1].sigmoid().tolist() == pytest.approx([0.5, 0.05, 0.4], abs=1e-4)
    few = Detection(classes=1, stride=4, box_weight=2)
    assert SetOfBoxes(task=few, labels={3: 0})(raw, (24, 24))[0, 0].sigmoid().max().item() == pytest.approx(0.05, abs=1e-4)


def test_a_detection_loss_takes_them_as_a_teachers():
    logits = SetOfBoxes(task=DETECTION, labels={0: 0, 1: 1, 2: 2})(boxes((1, 0.9, 2, 3, 9, 12)), (24, 24))
    student = logits.clone().requires_grad_()
    loss = DETECTION.distill_loss(student, logits)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and student.grad.abs().max() < 1e-5  # its own minimum


def test_a_map_is_read_at_every_stride_th_pixel():
    theirs = torch.full((1, 5, 6, 6), -9.0)
    theirs[0, 4, :, :3], theirs[0, 2, :, 3:] = 9, 9
    logits = ClassMap(task=SEGMENTATION, labels={4: 1, 2: 2}, stride=2)(SimpleNamespace(logits=theirs), (24, 24))
    assert logits.shape == (1, 3, 12, 12)
    assert (logits.argmax(1)[0, :, :6] == 1).all() and (logits.argmax(1)[0, :, 6:] == 2).all()


def test_detectors_whose_classes_stand_each_for_itself():
    raw = SimpleNamespace(logits=torch.full((1, 2, 4), -9.0), pred_boxes=torch.tensor([[[0.5, 0.5, 0.25, 0.25]] * 2]))
    raw.logits[0, 0, 3] = 2.0
    heat = SetOfBoxes(task=DETECTION, labels={0: 0, 1: 1, 3: 2}, scores="sigmoid")(raw, (24, 24))[:, :3].sigmoid()
    assert heat[0, 2].max() == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=1e-3) and heat[0, :2].max() < 0.01
    with pytest.raises(ValueError, match="scores: 'probability', expected softmax or sigmoid"):
        SetOfBoxes(task=DETECTION, labels={0: 0, 1: 1, 3: 2}, scores="probability")


def test_what_is_not_named_is_background():
    theirs = torch.randn(1, 5, 6, 6)
    logits = ClassMap(task=SEGMENTATION, labels={4: 1, 2: 2}, stride=4)(SimpleNamespace(logits=theirs), (24, 24))
    prob, ours = theirs.softmax(1), logits.softmax(1)
    assert ours[0, 0, 0, 0].item() == pytest.approx(prob[0, [0, 1, 3], 0, 0].sum().item(), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SetOfBoxes(task=DETECTION, labels={0: 0, 1: 2}), "labels: leaves out classes 1 of ours"),
        (lambda: SetOfBoxes(task=DETECTION, labels={0: 3}), "labels: 0 -> 3, expected a class of ours from 0 to 2"),
        (lambda: SetOfBoxes(task=DETECTION, labels={"cat": 0}), "labels: 'cat', expected the number of a class of theirs"),
        (lambda: SetOfBoxes(task=SEGMENTATION, labels={}), "an answer to Detection, not to Segmentation"),
        (lambda: ClassMap(task=SEGMENTATION, labels={1: 1}, stride=2), "labels: leaves out classes 2 of ours"),
        (lambda: ClassMap(task=DETECTION, labels={}, stride=2), "an answer to Segmentation, not to Detection"),
    ],
)
def test_maps_of_labels_that_leave_something_out(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_class_that_a_model_does_not_have():
    with pytest.raises(ValueError, match="class 4 of theirs, but the model has 4"):
        SetOfBoxes(task=DETECTION, labels={0: 0, 1: 1, 4: 2})(boxes(), (24, 24))
    theirs = SimpleNamespace(logits=torch.zeros(1, 3, 6, 6))
    with pytest.raises(ValueError, match="leaves no class of theirs for background"):
        ClassMap(task=SEGMENTATION, labels={0: 1, 1: 2, 2: 2}, stride=2)(theirs, (24, 24))


@pytest.mark.parametrize(
    ("model", "tap", "task", "reading", "shape"),
    [
        (
            lambda: transformers.DetrForObjectDetection(DETR),
            "model.encoder.layers.0",
            {"code": "pipeline/tasks/detection.py", "class": "Detection", "classes": 3, "stride": 4, "box_weight": 2},
            {"code": "pipeline/to_logits/set_of_boxes.py", "class": "SetOfBoxes", "labels": {0: 0, 1: 1, 3: 2}},
            (2, 7, 6, 6),
        ),
        (
            lambda: transformers.SegformerForSemanticSegmentation(SEGFORMER),
            "segformer.stages.1",
            {"code": "pipeline/tasks/segmentation.py", "class": "Segmentation", "classes": 3}
            | {"upscale": 2, "background_weight": 0.3, "temperature": 2},
            {"code": "pipeline/to_logits/class_map.py", "class": "ClassMap", "labels": {1: 1, 3: 2}, "stride": 2},
            (2, 3, 12, 12),
        ),
    ],
)
def test_a_real_model_answers_a_task_and_is_rebuilt_with_its_map(tmp_path, model, tap, task, reading, shape):
    torch.manual_seed(0)
    model().save_pretrained(tmp_path / "model")
    specs = {"ours": ClassSpec.model_validate(task)}
    tasks = {"ours": specs["ours"].build()}
    spec = ClassSpec.model_validate({**HUGGINGFACE, "taps": [tap], "to_logits": {"ours": reading}})
    network = build_network(spec, tasks, SHAPES, CPU, str(tmp_path / "model")).eval()
    outputs = network(IMAGES)
    assert outputs.logits["ours"].shape == shape and torch.isfinite(outputs.logits["ours"]).all()
    assert not list(network.heads.parameters())
    save_network(tmp_path / "teacher.safetensors", network, spec, specs, SHAPES)
    back, _, _ = load_network(tmp_path / "teacher.safetensors", CPU)
    assert torch.equal(back(IMAGES).logits["ours"], outputs.logits["ours"])


def test_queries_are_no_grid_and_a_task_that_is_not_there_is_named():
    config = DETR.to_dict() | {"architectures": ["DetrForObjectDetection"]}
    with pytest.raises(ValueError, match=r"tap 'model.decoder' gives one feature for each of 5 queries, which lie on no grid"):
        HuggingFace(config=config, taps=["model.decoder"], **NORMALISED)(IMAGES)
    with pytest.raises(ValueError, match=r"gives one feature for each of 4 queries"):  # as many as a grid of 2 x 2 has
        HuggingFace(config=config | {"num_queries": 4}, taps=["model.decoder"], **NORMALISED)(IMAGES)
    with pytest.raises(ValueError, match=r"to_logits.boxes: not a task of this network, which has none"):
        HuggingFace(config=config, to_logits={"boxes": None}, **NORMALISED)
