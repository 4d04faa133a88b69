"""What to tell somebody whose prompt the model cannot draw."""

from __future__ import annotations

from s2i_lib.errors import InputError
from s2i_lib.models.loading import Model
from s2i_lib.models.registry import BaseModel, known_words
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.vocabulary import vocabulary_of
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.storage.run_card import EditionError, find_run


def unknown_words(base: BaseModel, text: str, taught: str = "") -> list[str]:
    """Return the words of ``text`` that a small model was never trained on, in order, each once.

    The words of ``taught`` are known, too: those that a run was fine-tuned with.
    """
    vocabulary = vocabulary_of(base, taught)
    return vocabulary.unknown(text) if vocabulary else []


def explain_unknown_words(base: BaseModel, text: str, taught: str = "") -> str | None:
    """Say which words ``base`` has never seen, and what it knows; None where it knows all."""
    strange, words = unknown_words(base, text, taught), known_words(base)
    if not strange or words is None:
        return None
    nouns = words["nouns"]
    return (
        f"The {base.name} model has never seen the word{'s'[: len(strange) > 1]} "
        f"{', '.join(strange)}, so the picture is a guess. It knows {len(nouns)} words for things "
        f"({', '.join(nouns[:: max(1, len(nouns) // 12)][:12])}, ...), the places "
        f"{', '.join(words['places'])}, the things worn {', '.join(words['accessories'])}, and the "
        f"colours {', '.join(words['colours'])}."
    )


def explain_untaught(model: Model, prompt: Prompt, drive: Drive) -> str | None:
    """Say whom the prompt asks for that ``model`` was not taught; None where it was.

    Nobody knows whom weights from elsewhere were taught, so nothing is said of them.
    """
    if model.run and not model.taught:
        return None
    for subject in prompt.subjects:
        if subject.is_in(prompt.text) and subject.phrase not in model.taught:
            try:
                run = find_run(drive, folder_name(subject.name))
                remedy = f"Draw with its run: {run.parent.name}/{run.name}."
            except EditionError as error:
                remedy = str(error)
            except InputError:
                remedy = "Teach it first, with notebooks/2_finetune_dreambooth.ipynb."
            return (
                f"{subject.name} was named, but {model.run or model.base.name} was not taught "
                f"{subject.name} and draws any {subject.class_noun}. {remedy}"
            )
    return None
