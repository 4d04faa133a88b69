"""What the lesson shows and asks: PNGs with words for the blind, measures with known answers."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tiny_model import make_pipeline

from s2i_lib import lesson
from s2i_lib.drawing.sampling import decode, encode_prompts, initial_noise
from s2i_lib.errors import InputError
from s2i_lib.models.loading import load
from s2i_lib.storage.layout import Drive


def plain(colour, size=64):
    return PIL.Image.new("RGB", (size, size), colour)


def pixels_of(shown):
    return np.asarray(PIL.Image.open(io.BytesIO(shown.data)).convert("RGB"))


def test_rows_of_pictures_and_maps_become_one_png_with_an_alternative_text():
    images = [plain("red"), plain("blue"), np.arange(16.0).reshape(4, 4)]
    shown = lesson.show(images, ["one", "two", "three"], alt="Three squares", columns=2)
    assert shown.alt == "Three squares"
    found = pixels_of(shown).reshape(-1, 3)
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (found == colour).all(axis=1).mean() > 0.05


def test_heat_is_brightest_where_the_map_is_largest():
    shares = np.zeros((4, 4))
    shares[0, 3] = 1.0
    hot = np.asarray(lesson.heat(plain("grey"), shares)).astype(int)
    top_right, bottom_left = hot[16, -16], hot[-16, 16]
    assert top_right[0] > bottom_left[0] + 50, "yellow has red in it, dark blue has not"
    assert np.isfinite(np.asarray(lesson.heat(plain("grey"), np.ones((4, 4))))).all()


def test_flipbook_shows_the_picture_that_its_slider_names():
    book = lesson.flipbook([plain("red"), plain("blue")], ["first", "second"], "page")
    slider, picture = book.children

    def shown():
        return PIL.Image.open(io.BytesIO(picture.value)).getpixel((5, 5))

    assert shown() == (255, 0, 0)
    slider.value = 1
    assert shown() == (0, 0, 255)
    with pytest.raises(InputError, match="2 pictures and 1 captions"):
        lesson.flipbook([plain("red")] * 2, ["only"], "page")


def test_border_share_counts_the_border_and_not_the_middle():
    image = plain((245, 220, 60))
    image.paste((205, 38, 42), (8, 8, 56, 56))
    assert lesson.border_share(image, "yellow") == 1
    assert lesson.border_share(image, "red") == 0
    image.paste((45, 95, 205), (0, 0, 64, 8))
    assert lesson.border_share(image, "blue") == pytest.approx(8 * 64 / (64 * 64 - 48 * 48))
    with pytest.raises(InputError, match=r"no colour 'mauve'.*yellow"):
        lesson.border_share(image, "mauve")


def test_difference_is_the_root_mean_square_in_levels():
    assert lesson.difference(plain("black"), plain("white")) == 255
    assert lesson.difference(plain("red"), plain("red")) == 0
    with pytest.raises(InputError, match="cannot be compared"):
        lesson.difference(plain("red"), plain("red", 32))


def test_an_exercise_never_stops_a_run_all():
    assert lesson.check(True, "Try more.") == "Solved."
    assert lesson.check(False, "Try more.") == "Not yet. Try more."


def test_latents_of_a_picture_bring_it_back(pocket):
    size = pocket.base.size_px
    images = [plain((205, 38, 42), size), plain((45, 95, 205), size)]
    latents = lesson.encode(pocket, images)
    assert len(latents) == 2
    assert latents[0].shape == initial_noise(pocket, [0])[0].shape
    for image, back in zip(images, decode(pocket, latents), strict=True):
        assert lesson.difference(image, back) < 25


def test_the_pocket_model_is_a_fortieth_of_stable_diffusion_as_the_lesson_says(pocket):
    """Stable Diffusion 2.1's U-Net, text encoder and VAE, in millions of weights."""
    parts = (pocket.pipeline.unet, pocket.pipeline.text_encoder, pocket.pipeline.vae)
    ratio = (866 + 340 + 84) / (sum(part.num_parameters() for part in parts) / 1e6)
    [notebook] = Path(__file__).parents[2].glob("notebooks/5_*.ipynb")
    assert "a fortieth of its weights" in notebook.read_text() and 35 < ratio < 45


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_guess_splits_what_it_is_given_into_noise_and_picture(tmp_path, kind):
    """Put together again as the noise schedule does, the two parts are the input."""
    folder = tmp_path / "tiny"
    make_pipeline(prediction_type=kind).save_pretrained(folder)
    model = load(str(folder), drive=Drive(tmp_path))
    noisy, t = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)), 400
    parts = lesson.guess(model, "a car", noisy, t)
    alpha = lesson.snr(model, t) / (1 + lesson.snr(model, t))
    torch.testing.assert_close(alpha**0.5 * parts.clean + (1 - alpha) ** 0.5 * parts.noise, noisy)
    with torch.inference_mode():
        text = encode_prompts(model, ["a car"]).repeat(2, 1, 1)
        said = model.pipeline.unet(noisy, t, encoder_hidden_states=text).sample
    if kind == "epsilon":
        torch.testing.assert_close(parts.noise, said, atol=1e-4, rtol=1e-4)
    else:
        wanted = alpha**0.5 * parts.noise - (1 - alpha) ** 0.5 * parts.clean
        torch.testing.assert_close(wanted, said, atol=1e-4, rtol=1e-4)
