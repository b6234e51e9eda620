"""A tone curve: fitted, applied by samplers, kept and exported with its network."""

import pytest
import torch
from torch import Tensor, nn

from kaccore.export.portable import (
    Sampler,
    from_safetensors,
    run_torchscript,
    to_safetensors,
    to_torchscript,
)
from kaccore.models import UNet
from kaccore.paths import FlowMatchingPath
from kaccore.sampling import sample
from kaccore.solvers import uniform_times
from kaccore.tone import Calibrated, ToneCurve, tone_of, without_tone


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def real_images(count: int = 400, channels: int = 1) -> Tensor:
    """Half of the pixels are black, the others of any value."""
    values = torch.rand(count, channels, 8, 8, generator=seeded(1)) * 4 - 3
    return values.clamp(-1, 1)


def flat(images: Tensor) -> Tensor:
    """Images with a small error in every pixel and less contrast."""
    return 0.97 * images + 0.03 * torch.randn(images.shape, generator=seeded(2))


def quantiles(images: Tensor) -> Tensor:
    return images.clamp(-1, 1).flatten().quantile(torch.linspace(0.01, 0.99, 99))


def test_images_get_the_pixel_values_of_real_ones_also_others_than_those_of_the_fit():
    real = real_images()
    curve = ToneCurve.fit(flat(real[:200]), real[:200])
    made = flat(real[200:])
    before, after = (
        (quantiles(images) - quantiles(real)).abs().max() for images in (made, curve(made))
    )
    assert before > 0.04 and after < 0.02
    black = [float((images < -0.995).float().mean()) for images in (made, curve(made), real[200:])]
    assert black[0] < 0.3 and black[1] > 0.42 and black[2] == pytest.approx(0.5, abs=0.02)


def test_a_curve_keeps_the_order_of_pixel_values_and_ends_where_the_data_do():
    curve = ToneCurve.fit(flat(real_images()), real_images())
    values = torch.linspace(-3, 3, 1001).view(1, 1, 1, -1)
    mapped = curve(values).flatten()
    assert bool((mapped.diff() >= 0).all())
    assert float(mapped[0]) == -1 and float(mapped[-1]) == pytest.approx(1, abs=0.01)


def test_every_channel_has_its_own_curve():
    real = real_images(channels=3)
    real[:, 1] *= 0.5
    made = flat(real)
    made[:, 2] += 0.2
    mapped = ToneCurve.fit(made, real)(made)
    for c in range(3):
        assert (quantiles(mapped[:, c]) - quantiles(real[:, c])).abs().max() < 0.03


def test_what_is_right_already_stays_as_it_is():
    real = real_images()
    assert (ToneCurve.fit(real, real)(real) - real).abs().max() < 0.04


def test_a_pixel_that_is_not_a_number_stays_so():
    curve = ToneCurve.fit(flat(real_images()), real_images())
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0, 0, 0] = torch.nan
    mapped = curve(image)
    assert bool(mapped[0, 0, 0, 0].isnan()) and int(mapped.isnan().sum()) == 1


@pytest.mark.parametrize(
    "made, real, message",
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4), "same channels"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(2, 1, 4, 4), "at least one"),
        (torch.full((2, 1, 4, 4), torch.nan), torch.zeros(2, 1, 4, 4), "finite"),
    ],
)
def test_images_of_which_no_curve_can_be_fitted_are_refused(made, real, message):
    with pytest.raises(ValueError, match=message):
        ToneCurve.fit(made, real)


@pytest.mark.parametrize(
    "inputs, outputs, message",
    [
        (torch.zeros(3), torch.zeros(3), "same shape"),
        (torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]), "inputs that increase"),
        (torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), "do not decrease"),
    ],
)
def test_a_curve_that_is_none_is_refused(inputs, outputs, message):
    with pytest.raises(ValueError, match=message):
        ToneCurve(inputs, outputs)


def test_images_of_one_value_have_a_curve():
    curve = ToneCurve.fit(torch.zeros(4, 1, 2, 2), real_images(4))
    assert bool(curve(torch.zeros(1, 1, 2, 2)).isfinite().all())


# --- with a network


def network() -> UNet:
    torch.manual_seed(0)
    made = UNet(8, 1, channels=8, multipliers=(1,), blocks=1, attention=(), classes=3)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval()


CURVE = ToneCurve(torch.tensor([[-1.0, 0.0, 1.0]]), torch.tensor([[-1.0, -0.5, 1.0]]))
PATH = FlowMatchingPath()
LABELS = torch.tensor([0, 1, 2, 1])


def test_a_calibrated_networks_images_end_on_its_curve_and_its_velocity_is_the_networks():
    plain = network()
    made = Calibrated(plain, CURVE)
    arguments = {"steps": 3, "seed": 4, "solver": "ab2", "labels": LABELS, "guidance": 1.5}
    images = sample(plain, PATH, (4, 1, 8, 8), **arguments).images
    assert torch.equal(sample(made, PATH, (4, 1, 8, 8), **arguments).images, CURVE(images))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.9])
    assert torch.equal(made(x, t, LABELS[:2]), plain(x, t, LABELS[:2]))
    assert tone_of(made) is CURVE and tone_of(plain) is None
    assert without_tone(made) is plain and without_tone(plain) is plain


@pytest.mark.parametrize("kind", ["safetensors", "torchscript"])
def test_a_file_has_the_curve(tmp_path, kind):
    """That of ONNX has it too: see the tests of the export."""
    made = Calibrated(network(), CURVE)
    sampler = Sampler(made, uniform_times(2), guidance=1.5).eval()
    noise = torch.randn(4, 1, 8, 8, generator=seeded(5))
    with torch.no_grad():
        expected = sampler(noise, LABELS)
        plain = Sampler(network(), uniform_times(2), guidance=1.5)(noise, LABELS)
    assert not torch.allclose(expected, plain, atol=1e-3)
    arguments = '{"image_size": 8, "channels": 8}'
    about = (
        '{"network": {"class": "Ours", "arguments": {}}, "times": [1.0, 0.5, 0.0], '
        f'"sampler": {{"guidance": 1.5}}, "note": {arguments}}}'
    )
    path = tmp_path / "file"
    if kind == "safetensors":
        path.write_bytes(to_safetensors(sampler, about))
        read, _ = from_safetensors(path, {"Ours": network})
        with torch.no_grad():
            found = read(noise, LABELS)
    else:
        path.write_bytes(to_torchscript(sampler, [noise, LABELS], about))
        found = run_torchscript(path, [noise[:3], LABELS[:3]])
        expected = expected[:3]
    assert torch.allclose(found, expected, atol=1e-5)
