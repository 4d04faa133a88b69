"""What was heard, as a record that goes into pictures and comes back out of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from s2i_lib.errors import InputError
from s2i_lib.speech.whisper import Word


@dataclass(frozen=True)
class Segment:
    """What was said in one window of the recording."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    """Mean log probability of its words by Whisper: -0.2 is usual, below -0.45 doubtful."""
    no_speech_prob: float = 0.0


@dataclass(frozen=True)
class Transcript:
    """What was heard. ``english`` is what a prompt is made of."""

    text: str
    """Words in the language that was spoken."""
    language: str
    language_probability: float
    english: str
    segments: tuple[Segment, ...]
    engine: str
    model: str
    audio_s: float
    took_s: float
    doubts: tuple[str, ...] = ()
    """Reasons why this may not be what was said, as sentences; none is good."""
    n_decodes: int = 1
    language_doubt: str = ""
    """Doubt, of those above, that it was said in the language in which it was heard: then the words
    are nonsense. What asks before it draws asks for the reason given here."""
    notes: tuple[str, ...] = ()
    """Sentences on how it was heard that say nothing against the words: "Only English is heard now
    ...", with the first recording."""
    first_heard: str = ""
    """What was heard at first, where it was heard again: for a name, or words that the model knows.
    """

    @property
    def words(self) -> tuple[Word, ...]:
        """Every word with its time, where ``HearOptions.word_times`` asked for it."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Transcript:
        """Read what ``to_json`` wrote.

        Raises
        ------
        InputError
            When fields are missing or unknown.
        """
        try:
            segments = tuple(
                Segment(**{**segment, "words": tuple(Word(**word) for word in segment["words"])})
                for segment in record["segments"]
            )
            lists = {"doubts": tuple(record["doubts"]), "notes": tuple(record.get("notes", ()))}
            return cls(**{**record, "segments": segments, **lists})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"This is not a transcript's record ({error}). Expected what Transcript.to_json "
                "wrote."
            ) from error
