"""Clips with their words are read, heard, drawn, and scored."""

import shutil
from dataclasses import replace

import pytest
from sounds import KINDS

from s2i_lib.errors import InputError
from s2i_lib.evaluation import runs
from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.runs import evaluate_run
from s2i_lib.evaluation.speech import list_recordings, read_clips
from s2i_lib.models.loading import load
from s2i_lib.models.registry import PACKAGE
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.storage.files import sha256_of

WEIGHTS = PACKAGE / "pocket"  # a diffusers folder like any from elsewhere


def test_recordings_of_a_folder_are_told_from_what_else_lies_there(tmp_path):
    recordings = [tmp_path / name for name, *_ in KINDS.values()]
    for path in [*recordings, tmp_path / "a.txt", tmp_path / "a.json", tmp_path / ".DS_Store"]:
        path.touch()
    assert list_recordings(tmp_path) == sorted(set(recordings))
    (tmp_path / "empty").mkdir()
    for folder, why in (("empty", "found 0, need 1 or more"), ("nowhere", "no such folder")):
        with pytest.raises(InputError, match=rf"no recordings in .*{folder} \(.*{why}"):
            list_recordings(tmp_path / folder)


def test_clips_need_their_words(tmp_path):
    shutil.copy(PACKAGE / "samples" / "red_car.wav", tmp_path / "one.wav")
    with pytest.raises(InputError, match=r"one\.wav has no one\.txt"):
        read_clips(tmp_path)
    (tmp_path / "one.txt").write_text("a red car\n")
    [clip] = read_clips(tmp_path)
    assert clip.text == "a red car"
    (tmp_path / "one.txt").write_text("a red car", encoding="utf-8-sig")
    assert read_clips(tmp_path) == [clip], "as Windows saves it"
    for odd in ("a café".encode("latin-1"), "a red car".encode("utf-16")):
        (tmp_path / "one.txt").write_bytes(odd)
        with pytest.raises(InputError, match=r"one\.txt cannot be read .* text in UTF-8"):
            read_clips(tmp_path)
    (tmp_path / "one.txt").write_text("um, please\n")
    with pytest.raises(InputError, match=r"one\.txt: Nothing is left to draw"):
        read_clips(tmp_path)


@pytest.mark.slow
def test_hearing_is_scored_from_the_clip_to_the_picture(tmp_path, drive, monkeypatch, capsys):
    """The sample is heard without an error, so that both prompts, and their pictures, agree.

    The model has a negative prompt of its own, as Stable Diffusion 2 has: that is for wishes alone.
    """
    from s2i_lib.photos.subject import Subject

    def load_picky(*what, **named):
        model = load(*what, **named)
        return replace(model, base=replace(model.base, negative="watermark"))

    monkeypatch.setattr(runs, "load", load_picky)
    negatives, draw = [], SpeechToImage.draw

    def note(*what, **named):
        wish = draw(*what, **named)
        negatives.extend(picture.record["negative"] for picture in wish.pictures)
        return wish

    monkeypatch.setattr(SpeechToImage, "draw", note)
    for name in ("one", "two"):
        shutil.copy(PACKAGE / "samples" / "red_car.wav", tmp_path / f"{name}.wav")
    (tmp_path / "one.txt").write_text("A red car on a yellow background.")
    (tmp_path / "two.txt").write_text("A blue Racer without a hat.")  # not what is said in it
    options = EvaluateOptions(prompts=1, seeds=2, class_pictures=2, steps=3, resamples=200)
    result = evaluate_run(
        drive, str(WEIGHTS), options, subject=Subject("Racer", "car"), clips=read_clips(tmp_path)
    )
    assert "Evaluating" in capsys.readouterr().err, "a bar, since this takes minutes"
    speech = result.speech
    one, two = speech["clips"]
    assert one["heard"].lower().startswith("a red car on a yellow background")
    assert speech["word_error_rate"].mean > 0  # of the second clip only
    assert speech["listener"]["model"] == "tiny.en" and speech["listener"]["version"]
    assert one["sha256"] == two["sha256"] == sha256_of(tmp_path / "one.wav")
    assert (two["typed_negative"], two["spoken_negative"]) == ("hat", "")
    assert negatives == [""] * 4 + ["hat"] * 2 + [""] * 2, "typed, then spoken, of each clip"
    assert speech["r_precision_captions"] == 2
    assert speech["name_recall"].mean == 0  # Racer was said in the words, and not in the clip
    assert one["typed_prompt"].lower() == one["spoken_prompt"].lower()
    assert "ohwx car" in two["typed_prompt"]
    assert {"speech_gap", "r_precision"} <= set(speech)
    assert result.to_json()["speech"]["speech_gap"]["n"] == 4
