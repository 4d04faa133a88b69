"""Second tries, translations and doubts, with an engine that says what it is told to."""

import numpy as np
import pytest
from sounds import JFK

from s2i_lib.errors import InputError
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.audio import RATE_HZ, read_audio
from s2i_lib.speech.decoding import WISHES
from s2i_lib.speech.transcribe import HearOptions, hear_windows
from s2i_lib.speech.vocabulary import vocabulary_of
from s2i_lib.speech.weights import MODELS, WINDOW_S
from s2i_lib.speech.whisper import Decoded
from s2i_lib.speech.windows import MAX_DECODES, Window

REX, LUNA, BELLA, MOCHI = (Subject(name, "dog") for name in ("Rex", "Luna", "Bella", "Mochi"))


class Scripted:
    """An engine that says what it is told to: the trained multilingual weights are not here."""

    name = "scripted"

    def __init__(self, said, model="small", language=("de", 0.97), device="cpu"):
        self.said, self.model, self.language = list(said), model, language
        self.device = device
        self.is_multilingual = True
        self.passes = []

    def encode(self, samples, context_s):
        return context_s

    def detect_language(self, encoded):
        return self.language

    def decode(self, encoded, options):
        self.passes.append((options.task, encoded, options.hint, options.temperature))
        text, avg_logprob = self.said[min(len(self.passes), len(self.said)) - 1]
        return Decoded(text, (1, 2), avg_logprob, 0.01)

    def word_times(self, encoded, decoded, language):
        return []


def listen(engine, options=None, seconds=3.0, count=1):
    window = Window(0, np.zeros(int(seconds * RATE_HZ), np.float32), seconds)
    audio = read_audio(JFK)
    return hear_windows(engine, audio, [window] * count, options or HearOptions())


def test_german_is_kept_and_translated():
    engine = Scripted([("ein roter Hund", -0.2), ("a red dog", -0.3)])
    transcript = listen(engine)
    assert (transcript.text, transcript.english) == ("ein roter Hund", "a red dog")
    assert (transcript.language, transcript.language_probability) == ("de", 0.97)
    assert [task for task, *_ in engine.passes] == ["transcribe", "translate"]
    assert transcript.doubts == ()


def test_whisper_is_told_usual_words_of_the_language_and_then_what_they_mean():
    """Base alone makes "a red light" of "un chien rouge"."""
    engine = Scripted([("un chien rouge", -0.2), ("a red light", -0.3)], language=("fr", 0.97))
    assert listen(engine, HearOptions(subjects=(REX,))).english == "a red light, a dog"
    (_, _, heard_with, _), (_, _, translated_with, _) = engine.passes
    assert "rouge" in heard_with.split(", ") and heard_with.endswith(" A picture of Rex.")
    assert translated_with == "A picture of Rex, red dog."


def test_english_is_heard_after_names_and_wishes():
    engine = Scripted([("a red dog", -0.2)], language=("en", 0.97))
    listen(engine, HearOptions(subjects=(REX, LUNA)))
    assert [hint for *_, hint, _ in engine.passes] == [f"A picture of Rex and Luna. {WISHES}"]


def test_what_whisper_was_told_is_not_taken_for_what_was_said():
    """In noise as loud as this it says the hint again; heard without one, nothing is left."""
    lost = [("Two owls in an armchair.", -1.1), ("", -1.3), ("", -1.3)]
    with pytest.raises(InputError, match="Nothing was said"):
        listen(Scripted(lost, language=("en", 0.97)))
    clear = Scripted([("Two owls in the fog.", -0.3)], language=("en", 0.97))
    assert listen(clear).text == "Two owls in the fog."
    unsure = [("Make it purple.", -1.1), ("Make it purple.", -1.2), ("Make it pup.", -1.3)]
    transcript = listen(Scripted(unsure, language=("en", 0.97)))
    assert transcript.text == "Make it purple." and transcript.doubts  # so it is asked for


WORDS = vocabulary_of(REGISTRY["pocket"])


def test_words_that_the_model_does_not_know_are_heard_again_as_those_that_it_knows():
    said = [("A dreadan in the snow.", -0.2), ("A dragon in the snow.", -0.1)]
    engine = Scripted(said, language=("en", 0.97))
    transcript = listen(engine, HearOptions(vocabulary=WORDS))
    assert (transcript.text, transcript.english) == ("A dragon in the snow.",) * 2
    assert (transcript.first_heard, transcript.n_decodes) == ("A dreadan in the snow.", 2)
    hint = engine.passes[1][2]
    assert "A dragon on the beach." in hint and hint.count("on the beach.") == 8


def test_the_window_with_strange_words_is_heard_again_and_names_are_told_again():
    said = [("A red car.", -0.2), ("A peacot.", -0.2), ("A peacock.", -0.1)]
    engine = Scripted(said, language=("en", 0.97))
    transcript = listen(engine, HearOptions(subjects=(REX,), vocabulary=WORDS), count=2)
    assert transcript.text == "A red car. A peacock."
    assert (transcript.first_heard, transcript.n_decodes) == ("A red car. A peacot.", 3)
    assert engine.passes[2][2].startswith("A picture of Rex. ")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("An elevator in the snow.", "An elevator in the snow."),  # it is what was said
        ("A dreadan in the snow.", "A dreadful snore."),  # as many words are strange
    ],
)
def test_what_is_no_better_the_second_time_stays(first, again):
    engine = Scripted([(first, -0.2), (again, -0.1)], language=("en", 0.97))
    transcript = listen(engine, HearOptions(vocabulary=WORDS))
    assert (transcript.text, transcript.first_heard, len(engine.passes)) == (first, "", 2)


@pytest.mark.parametrize(
    "said", ["A red car on a beach.", "Make it blue, please.", "Bela on a beach.", "Undo that."]
)
def test_known_words_changes_and_near_names_are_heard_once(said):
    engine = Scripted([(said, -0.2)], language=("en", 0.97))
    words = vocabulary_of(REGISTRY["pocket"], subjects=[BELLA])
    listen(engine, HearOptions(subjects=(BELLA,), vocabulary=words))
    assert len(engine.passes) == 1


def test_a_name_that_was_missed_is_heard_again_and_what_was_heard_at_first_is_kept():
    said = [("Not she in a cup of tea.", -0.3), ("Mochi in the cup of tea.", -0.34)]
    engine = Scripted(said, language=("en", 0.97))
    transcript = listen(engine, HearOptions(subjects=(MOCHI, REX)))
    assert transcript.text == transcript.english == "Mochi in the cup of tea."
    assert (transcript.first_heard, transcript.n_decodes) == ("Not she in a cup of tea.", 2)
    assert engine.passes[1][2] == "Mochi and Rex. Mochi asleep. Rex asleep."


@pytest.mark.parametrize(
    ("again", "logprob"),
    [
        ("Mochi in a cup of tea.", -0.28),  # hardly likelier
        ("Mochi on a red carpet.", -0.2),  # more has changed than a name
    ],
)
def test_a_name_is_not_taken_for_what_was_said_otherwise(again, logprob):
    engine = Scripted([("Marti in a cup of tea.", -0.3), (again, logprob)], language=("en", 0.97))
    transcript = listen(engine, HearOptions(subjects=(MOCHI,)))
    assert (transcript.text, transcript.first_heard) == ("Marti in a cup of tea.", "")


def test_a_name_and_then_a_thing_are_heard_again_in_one_sentence():
    said = ["Marti and a peacot.", "Mochi and a peacot.", "Mochi and a peacock."]
    engine = Scripted([(text, -0.2) for text in said], language=("en", 0.97))
    words = vocabulary_of(REGISTRY["pocket"], subjects=[MOCHI])
    transcript = listen(engine, HearOptions(subjects=(MOCHI,), vocabulary=words))
    assert (transcript.text, transcript.first_heard, transcript.n_decodes) == (said[2], said[0], 3)


def test_other_languages_and_clips_without_a_decode_to_spare_are_not_heard_again():
    engine = Scripted([("ein Dreddan", -0.2), ("a dreadan", -0.3)])
    assert listen(engine, HearOptions(vocabulary=WORDS)).n_decodes == 2
    engine = Scripted([("a dreadan", -0.2)], language=("en", 0.97))
    assert listen(engine, HearOptions(vocabulary=WORDS), count=3).n_decodes == MAX_DECODES


def test_another_language_than_was_named_is_doubted():
    said = Scripted([("a water gun", -0.2)])  # sounds like German, by 0.97
    transcript = listen(said, HearOptions(language="en"))
    assert transcript.language_doubt.startswith("This sounds like German (probability 0.97)")
    assert transcript.language_doubt in transcript.doubts
    assert listen(Scripted([("ein Hund", -0.2)]), HearOptions(language="de")).language_doubt == ""


def test_turbo_refuses_german_and_says_what_it_heard():
    with pytest.raises(InputError, match=r"cannot translate.*ein roter Hund.*--language en"):
        listen(Scripted([("ein roter Hund", -0.2)], model="turbo"))


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_clip_takes_more_than_three_decodes(language):
    loop = ("draw me a cat " * 12, -0.1)
    engine = Scripted([loop], language=(language, 0.99))
    transcript = listen(engine)
    assert len(engine.passes) == transcript.n_decodes == MAX_DECODES
    assert any("repeat" in doubt for doubt in transcript.doubts)


def test_windows_of_a_long_clip_share_its_three_decodes():
    loop, sound, lost = ("draw me a cat " * 12, -0.1), ("a cat", -0.2), ("mumble", -1.4)
    for said, texts in (
        ([lost, loop, sound], ["mumble", "a cat"]),  # the loop is the worse of the two
        ([sound, loop, sound], ["a cat", "a cat"]),
        ([sound, sound], ["a cat", "a cat"]),
        ([sound, loop, loop, sound], ["a cat", loop[0], loop[0]]),  # three windows: none to spare
    ):
        engine = Scripted(said, language=("en", 0.99))
        transcript = listen(engine, seconds=20.0, count=len(texts))
        assert [segment.text for segment in transcript.segments] == texts
        assert len(engine.passes) == transcript.n_decodes <= MAX_DECODES
    assert any("repeat" in doubt for doubt in transcript.doubts)


def test_a_long_clip_in_german_has_one_decode_and_one_translation_a_window():
    engine = Scripted([("der Hund " * 40, -0.1)])
    assert listen(engine, seconds=20.0, count=2).n_decodes == 4
    assert [task for task, *_ in engine.passes] == ["transcribe"] * 2 + ["translate"] * 2


def test_a_loop_is_heard_again_in_the_whole_window_without_the_names():
    loop = ("a dog on the beach a dog on the beach", -0.1)
    said = [loop, ("a dog on the beach", -0.3)]
    engine = Scripted(said, model="tiny.en", language=("en", 0.99))
    transcript = listen(engine, HearOptions(subjects=(REX,)))
    assert transcript.text == "a dog on the beach"
    assert [(context_s, bool(hint)) for _, context_s, hint, _ in engine.passes] == [
        (10, True),
        (30, False),
    ]


def test_uncertain_words_and_languages_are_doubted():
    transcript = listen(Scripted([("mumble mumble", -1.4)], language=("en", 0.3)))
    assert any("unsure of the words" in doubt for doubt in transcript.doubts)
    assert any("language is a guess" in doubt for doubt in transcript.doubts)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("model", [*MODELS, "/somewhere/mine.pt"])
def test_a_window_is_shortened_only_where_it_was_measured(model, device):
    """benchmarks/README.md has tables of shorter windows for these models, all on a CPU."""
    engine = Scripted([("a cat", -0.2)], model=model, language=("en", 0.99), device=device)
    listen(engine, seconds=3.0)
    [(_, context_s, *_)] = engine.passes
    assert context_s == (10 if (model, device) in {("tiny.en", "cpu")} else WINDOW_S)
    asked = Scripted([("a cat", -0.2)], model=model, language=("en", 0.99), device=device)
    listen(asked, HearOptions(context_s=12.0), seconds=3.0)
    assert asked.passes[0][1] == 12
