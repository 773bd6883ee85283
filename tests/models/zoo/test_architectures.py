"""Every architecture computes what its paper says: shapes, published parameter counts, shortcuts and shuffles."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compresskit.errors import UsageError
from compresskit.models.zoo import ARCHITECTURES, build
from compresskit.models.zoo.dpn import DualPathBlock
from compresskit.models.zoo.layers import SqueezeExcitation
from compresskit.models.zoo.resnet import PadShortcut
from compresskit.models.zoo.shufflenet_v2 import ShuffleBlock
from compresskit.training import recalibrate_batchnorm

UNET = [(3, 16), (16, 16)] + [pair for n in (16, 32, 64) for pair in ((n, 2 * n), (2 * n, 2 * n), (2 * n, n), (2 * n, n), (n, n))]


def convolution(inputs: int, outputs: int) -> int:
    """Parameters of a 3x3 convolution and its norm."""
    return (9 * inputs + 2) * outputs


# At 10 classes. The ResNets, ShuffleNets, MobileNetV2, VGGs and ResNet-18 as stated with their published weights; DenseNet-40
# as in the network slimming paper (1.02M); GoogLeNet, DenseNet-121, ResNeXt, MobileNet, DPN-92, RegNetX and DLA as commonly published
# for CIFAR-10; MobileNetV3 and EfficientNet as published for ImageNet, less 990 classes; the others counted by hand, BERT at 2 classes,
# those for tables with 8 columns and one number.
PUBLISHED = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18": 11_173_962,
    "vgg16": 14_728_266,
    "vgg19": 20_040_522,
    "mobilenet_v2": 2_236_682,
    "densenet40": 1_019_722,
    "shufflenet_v2_x0_5": 352_042,
    "shufflenet_v2_x1_0": 1_263_854,
    "mlp": (3072 + 1) * 512 + (512 + 1) * 512 + (512 + 1) * 10,
    "vit": (48 + 1) * 192 + (1 + 65) * 192 + 6 * (2 * 2 * 192 + (192 + 1) * 4 * 192 + (192 + 1) * 768 + (768 + 1) * 192) + 2 * 192 + (192 + 1) * 10,
    "resnet8": 75_290,
    "googlenet": 6_166_250,
    "densenet121": 6_956_298,
    "resnext29_2x64d": 9_128_778,
    "mobilenet": 3_217_226,
    "dpn92": 34_236_634,
    "regnetx_200mf": 2_321_946,
    "simple_dla": 15_142_970,
    "mobilenet_v3_small": 2_542_856 - 990 * (1024 + 1),
    "efficientnet_b0": 5_288_548 - 990 * (1280 + 1),
    "senet18": 11_173_962 + sum(2 * (2 * n * (n // 16) + n // 16 + n) for n in (64, 128, 256, 512)),  # ResNet-18, and a perceptron a block
    "bert": (8192 + 64 + 2) * 128 + 2 * (4 * 129 * 128 + 129 * 512 + 513 * 128 + 4 * 128) + 129 * 128 + 129 * 2,
    "table_mlp": 9 * 256 + 2 * 257 * 256 + 257,
    "snn": 9 * 256 + 2 * 257 * 256 + 257,
    "table_resnet": 9 * 128 + 4 * (2 * 128 + 129 * 256 + 257 * 128) + 2 * 128 + 129,
    "dcn_v2": 2 * 9 * 8 + 9 * 256 + 257 * 256 + 8 + 256 + 1,
    "unet": sum(convolution(*channels) for channels in UNET) + (16 + 1) * 10,
}

TABLES = ("table_mlp", "snn", "table_resnet", "dcn_v2")


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_count_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        assert parameters(build(name)) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "count"), [("resnet20", 272_474), ("resnet56", 855_770)])
def test_parameter_count_with_convolutions_in_the_shortcuts(name: str, count: int) -> None:
    assert parameters(build(name, shortcut="B")) == count


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in ("bert", *TABLES)])
def test_forward_maps_images_to_classes_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, classes=7, in_channels=2, width=0.25).eval().double()
    images = torch.randn(3, 2, 32, 32, dtype=torch.float64)
    recalibrate_batchnorm(module, [(images, images)])  # else little of the images is left at the end of deep networks
    with torch.no_grad():
        together = module(images)
        alone = torch.cat([module(image[None]) for image in images])
    assert together.shape == ((3, 7, 32, 32) if name == "unet" else (3, 7))
    torch.testing.assert_close(together, alone)
    assert not torch.equal(together[0], together[1]), "the images matter"


@pytest.mark.parametrize("name", TABLES)
def test_rows_become_numbers_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, classes=2, in_channels=5, width=0.1).eval()
    rows = torch.randn(3, 5)
    together = module(rows)
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, torch.cat([module(row[None]) for row in rows]))


def test_self_normalizing_networks_keep_activations_standardized() -> None:
    torch.manual_seed(0)
    module = build("snn", width=4.0)
    hidden = torch.nn.Sequential(*list(module)[:-1])(torch.randn(2000, 8)).detach()
    assert abs(float(hidden.mean())) < 0.15
    assert 0.7 < float(hidden.std()) < 1.3


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_size_is_a_parameter(name: str) -> None:
    module = build(name, in_channels=1, width=0.1, size=8)
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(RuntimeError):
        module(torch.zeros(2, 1, 12, 12))


def test_texts_are_classified_one_by_one_whatever_stands_behind_them() -> None:
    torch.manual_seed(0)
    module = build("bert", classes=3, width=0.25, vocabulary=50, tokens=8).eval()
    short, long = torch.randint(1, 50, (2, 5)), torch.randint(1, 50, (2, 8))
    padded = F.pad(short, (0, 3))
    with torch.no_grad():
        together = module(torch.cat([padded, long]))
        torch.testing.assert_close(together, torch.cat([module(text[None]) for text in [*padded, *long]]))
        module.words.weight[0] = 7.0
        torch.testing.assert_close(module(padded), together[:2])
        assert module(torch.zeros(1, 8, dtype=torch.int64)).isfinite().all(), "the first token always counts"
    assert not torch.allclose(together[2], together[3]), "the words matter"


def test_pad_shortcut_keeps_every_second_pixel_between_zeros() -> None:
    x = torch.arange(1.0, 33).reshape(1, 2, 4, 4)
    y = PadShortcut(3)(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, [0, 3, 4]].any()


def test_shuffle_interleaves_the_kept_half_with_the_worked_one() -> None:
    block = ShuffleBlock(6, 3, stride=1).eval()
    x = torch.randn(1, 6, 2, 2)
    with torch.no_grad():
        y, worked = block(x), block.branch2(x[:, 3:])
    assert torch.equal(y[:, ::2], x[:, :3])
    assert torch.equal(y[:, 1::2], worked)


def test_dual_paths_add_the_first_channels_and_append_the_others() -> None:
    block = DualPathBlock(8, 4, 6, 3, 2, stride=1, first=False).eval()
    x = torch.randn(1, 8, 2, 2)
    with torch.no_grad():
        y, worked = block(x), block.body(x)
    assert torch.equal(y[:, :6], F.relu(x[:, :6] + worked[:, :6]))
    assert torch.equal(y[:, 6:8], F.relu(x[:, 6:]))
    assert torch.equal(y[:, 8:], F.relu(worked[:, 6:]))


def test_excitation_scales_channels_by_what_their_means_say() -> None:
    excite = SqueezeExcitation(4, 2).eval()
    x = torch.randn(2, 4, 3, 3)
    mirrored = x.flip(3)
    with torch.no_grad():
        ratio = excite(x) / x
        torch.testing.assert_close(excite(mirrored) / mirrored, ratio)
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(x))
    assert ((ratio > 0) & (ratio < 1)).all()


@pytest.mark.parametrize("options", [{"classes": 0}, {"in_channels": -1}, {"width": 0.0}, {"width": float("nan")}, {"width": float("inf")}])
def test_impossible_numbers_are_usage_errors(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"'mlp': {next(iter(options))} is"):
        build("mlp", **options)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'resnet\d+'.*densenet40, .*, vit"):
        build("resnet21")
