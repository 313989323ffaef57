import pytest
import torch

from pipeline.encoders.image import ImageEncoder


@pytest.mark.parametrize(("size", "grid"), [((24, 24), (6, 6)), ((32, 16), (8, 4))])
def test_the_trunk_is_at_stride_4(size, grid):
    encoder = ImageEncoder(width=8, blocks=2, channels=3)
    features = encoder({"image": torch.zeros(2, 3, *size, dtype=torch.uint8)})
    assert {tap: tuple(x.shape) for tap, x in features.items()} == {"trunk": (2, 8, *grid)}


def test_in_evaluation_mode_a_row_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    encoder = ImageEncoder(width=8, blocks=1)
    image = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    encoder({"image": image})  # statistics other than the initial ones
    encoder.eval()
    torch.testing.assert_close(encoder({"image": image[2:3]})["trunk"], encoder({"image": image})["trunk"][2:3])


def test_it_sees_the_whole_of_a_small_scene():
    """Every pixel of a 24 x 24 scene reaches the middle of the grid."""
    torch.manual_seed(0)
    encoder = ImageEncoder(width=8, blocks=2).eval()
    for block in encoder.trunk:
        torch.nn.init.ones_(block.convs[-1].weight)  # blocks start as the identity
    for corner in (0, 23):
        image = torch.full((1, 1, 24, 24), 128, dtype=torch.uint8)
        blank = encoder({"image": image})["trunk"]
        image[..., corner, corner] = 255
        assert not torch.equal(encoder({"image": image})["trunk"][..., 2:4, 2:4], blank[..., 2:4, 2:4])
