"""Keep the card that says who a subject is: subjects/<name>/subject.json."""

from __future__ import annotations

import dataclasses
import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.storage.disk import list_folder, name_fault
from s2i_lib.storage.files import write_json
from s2i_lib.storage.json_file import check_fields, load_object
from s2i_lib.storage.layout import Drive, composed, folder_name

logger = logging.getLogger(__name__)

# Identifiers to offer, in this order: each is one token of CLIP's vocabulary and of the pocket
# model's. They are tags under which the weather of Ohio, Florida, Georgia, ... is talked about: no
# word, name or weapon in any language, and hardly a caption has one. The usual "sks" is a rifle,
# and a run that has learnt little draws it; "zwx" is two tokens.
RARE_TOKENS = (
    "ohwx", "flwx", "gawx", "okwx", "alwx", "miwx", "scwx", "wiwx", "arwx", "ilwx", "wawx", "azwx",
)  # fmt: skip
LONGEST_NOUN = 40  # letters
MARKS = " .,;!?\"'“”„‘’«»"  # around a word that was copied out of a sentence
# Nouns that have no singular, or mean something else in it.
PAIRS = frozenset({
    "glasses", "sunglasses", "scissors", "trousers", "jeans", "shorts", "pants", "headphones",
    "binoculars", "goggles", "clothes", "shoes", "grapes", "pancakes", "fries", "pyjamas",
    "pajamas", "tights", "leggings", "overalls", "pliers", "tongs", "tweezers", "earphones",
})  # fmt: skip
# Nouns that end like a plural and are none.
ENDING_IN_S = frozenset({
    "news", "series", "species", "gas", "lens", "canvas", "atlas", "pancreas", "christmas",
    "thermos", "rhinoceros", "cosmos", "chaos", "triceratops", "cyclops",
})  # fmt: skip
# Nouns that are said without an article.
UNCOUNTED = frozenset({
    "bread", "cheese", "broccoli", "popcorn", "chocolate", "candy", "corn", "fire", "lightning",
    "santa", "claus", "news",
})  # fmt: skip
_O = r"(tomat|potat|her|volcan|mosquit|torped|buffal)o"  # those that become -oes
_MAN = r"(?<=[a-z]{2})(?<!\bhu)(?<!\bger)(?<!\bro)(?<!\bsha)(?<!\btalis)man$"  # as in snowman
SINGULARS = (
    (rf"{_O}es$", r"\1o"),
    (r"(?<=[a-z]{2})(?<!\bspeci)(?<!\babdo)(?<!\bra)(?<!\bsta)men$", "man"),
    (r"(\bb|cact|octop|potam|walr)uses$", r"\1us"),
    (r"(rhinocer)oses$", r"\1os"),
    (r"\b(tax|sk)is$", r"\1i"),
    (r"(cook|zomb|mov|pix|hood|brown)ies$", r"\1ie"),
    (r"ies$", "y"),
    (r"(x|z|ch|sh|ss)es$", r"\1"),
    (r"([^siu])s$", r"\1"),
)  # fmt: skip
IRREGULAR = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "mouse": "mice",
    "goose": "geese", "fish": "fish", "goldfish": "goldfish", "sheep": "sheep", "knife": "knives",
    "wolf": "wolves", "foot": "feet", "tooth": "teeth", "leaf": "leaves", "scarf": "scarves",
    "deer": "deer", "dice": "dice", "spacecraft": "spacecraft", "shelf": "shelves",
}  # fmt: skip
Kind = Literal["person", "animal", "object"]
KINDS: tuple[Kind, ...] = ("person", "animal", "object")
# What the kind is guessed from where it is not given; a wrong guess costs a face crop, a mirror, or
# the question for consent.
PEOPLE = frozenset({
    "person", "people", "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler",
    "face", "selfie", "portrait", "teenager", "lady", "gentleman", "guy", "teacher", "student",
    "friend", "mother", "father", "grandmother", "grandfather", "actor", "human", "adult", "women",
    "men", "daughter", "son", "sister", "brother", "wife", "husband", "mum", "mom", "dad",
    "grandma", "grandpa", "aunt", "uncle", "cousin", "niece", "nephew", "bride", "groom", "couple",
    "family", "actress", "singer", "dancer", "doctor", "nurse", "musician", "artist",
})  # fmt: skip
ANIMALS = frozenset({
    "animal", "pet", "dog", "puppy", "cat", "kitten", "horse", "pony", "bird", "parrot",
    "budgie", "chicken", "rabbit", "bunny", "hamster", "guinea-pig", "mouse", "rat", "ferret",
    "fish", "goldfish", "turtle", "tortoise", "lizard", "gecko", "snake", "frog", "cow", "pig",
    "sheep", "goat", "donkey", "duck", "goose", "hedgehog", "fox",
})  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """Who is drawn: the name that people say, and the words that stand for it in a prompt."""

    name: str
    """Name as people say it: "Rex"."""
    class_noun: str
    """Noun of its class: "dog"."""
    identifier: str = RARE_TOKENS[0]
    """Rare token that the text encoder has no picture of yet."""
    kind: Kind = "object"
    spellings: tuple[str, ...] = field(default=(), compare=False)
    """Spellings that Whisper made of the name when it was said to teach it; they count as the name.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", composed(self.name))
        object.__setattr__(self, "spellings", tuple(map(composed, self.spellings)))  # JSON: a list
        for text in ("name", "class_noun", "identifier"):
            if not getattr(self, text).strip():
                raise InputError(
                    f"The subject's {text.replace('_', ' ')} is empty. "
                    "Give all three, for instance Rex:dog:ohwx."
                )
        if self.kind not in KINDS:
            raise InputError(
                f"{self.kind!r} is not a kind of subject. It is one of {', '.join(KINDS)}."
            )

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {"spellings": list(self.spellings)}

    @classmethod
    def from_record(cls, record: Any) -> Subject:
        """Read what ``to_record`` wrote; ValueError where fields are missing or of another type."""
        fields = tuple(one.name for one in dataclasses.fields(cls))
        check_fields(record, {**dict.fromkeys(fields, str), "spellings": [str]}, "the subject")
        try:
            return cls(**{one: record[one] for one in fields if one in record})
        except TypeError as error:
            raise ValueError(first_line(error)) from error

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read NAME:CLASS_NOUN or NAME:CLASS_NOUN:IDENTIFIER, as the command line gives it."""
        parts = [part.strip() for part in text.split(":")]
        if len(parts) not in (2, 3):
            raise InputError(
                f"{text!r} does not say who the subject is. "
                "Expected NAME:CLASS_NOUN:IDENTIFIER, for instance Rex:dog:ohwx."
            )
        name, class_noun, identifier = (*parts, cls.identifier)[:3]
        class_noun = check_class_noun(class_noun)
        return cls(name, class_noun, identifier, guess_kind(class_noun))

    @classmethod
    def choose(
        cls,
        drive: Drive,
        name: str,
        class_noun: str,
        *,
        identifier: str | None = None,
        kind: str | None = None,
    ) -> Subject:
        """Return a subject with what is not given: the identifier on its card, its noun's kind."""
        class_noun = check_class_noun(class_noun)
        said = cast("Kind | None", kind)  # that it is one is checked above
        return cls(
            name,
            class_noun,
            identifier or choose_identifier(drive, name),
            said or guess_kind(class_noun),
        )

    @property
    def spoken(self) -> str:
        """Return the name in Latin letters, as English is heard: of राम what was taught, "Ram"."""
        return self.name if is_latin(self.name) or not self.spellings else self.spellings[0]

    @property
    def phrase(self) -> str:
        """Return what stands for it in a prompt: "ohwx dog"."""
        return f"{self.identifier} {self.class_noun}"

    def is_in(self, text: str) -> bool:
        """Return whether a prompt shows it by looks, one of it or several ("two ohwx puppies")."""
        return self.phrase in text or plural_of(self.phrase) in text


def is_latin(name: str) -> bool:
    """Return whether a name has Latin letters, in which English that was heard is written."""
    return any("LATIN" in unicodedata.name(letter, "") for letter in name)


def check_class_noun(given: str) -> str:
    """Return a class noun without article and blanks, in the singular ("the dogs" is "dog").

    Raises
    ------
    InputError
        When it is no noun of a few words.
    """
    words = " ".join(given.split()).strip(MARKS)
    noun = re.sub(r"^(?:an?|the|my|our)(?:\s+|$)", "", words, flags=re.IGNORECASE)
    one = _singular(noun)
    is_odd = (
        not any(map(str.isalpha, noun))
        or len(noun) > LONGEST_NOUN
        or re.search(r"[:;,<>()\[\]{}/|\\\"=+*@#%_]|\bof\b|['’]s?$", noun)
        or (re.search(r"\b(?:and|or)\b", noun) and one != noun)  # "dogs and cats"
    )
    if given.strip() and is_odd:
        raise InputError(
            f"{given[:60]!r} is no class noun. Expected what it is one of, in one to three words "
            "without a colon, for instance dog, coffee mug or toy car."
        )
    if one != noun:
        logger.warning("The class noun %r was taken in the singular, %r.", noun, one)
    return one


def _singular(noun: str) -> str:
    last = noun.lower().rpartition(" ")[2]
    is_known = last in (PEOPLE | ANIMALS).difference(IRREGULAR.values())
    if is_known or last == "people":  # a group may be the subject
        return noun
    return singular_of(noun)


def singular_of(noun: str) -> str:
    """Return the singular of a noun by its last word; one that is none stays."""
    *before, last = noun.split() or [""]
    back = {several: one for one, several in IRREGULAR.items()}
    if single := back.get(last.lower()):
        return " ".join([*before, single])
    if last.lower() not in PAIRS | ENDING_IN_S:
        for ending, one in SINGULARS:
            if re.search(ending, last):
                return " ".join([*before, re.sub(ending, one, last)])
    return noun


def plural_of(noun: str) -> str:
    """Return the plural of a class noun, by its last word: "toy car" is "toy cars"."""
    *before, last = noun.split()
    several = last if last in PAIRS | UNCOUNTED else IRREGULAR.get(last)
    if several is None and re.search(_MAN, last):
        several = last[:-3] + "men"
    if several is None:
        is_es = re.search(rf"(?:s|x|z|ch|sh|{_O})$", last)
        several = last + "es" if is_es else re.sub(r"(?<=[^aeiou])y$", "ie", last) + "s"
    return " ".join([*before, several])


def guess_kind(class_noun: str) -> Kind:
    """Return the kind that the last word of a class noun says: "little girl" is a person."""
    words = class_noun.lower().split()
    last = words[-1] if words else ""
    return "person" if last in PEOPLE else "animal" if last in ANIMALS else "object"


def check_identifier(identifier: str, drive: Drive) -> None:
    """Compare an identifier with the tokenizers that are here: pocket's, and those on the Drive.

    One that is cut into pieces has no embedding of its own, and its pieces mean other things.

    Raises
    ------
    InputError
        When a tokenizer cuts it up that keeps another rare token whole; that one is named.
    """
    for base in REGISTRY.values():
        path = (base.folder or drive.models / base.name) / "tokenizer" / "vocab.json"
        if not path.is_file():
            continue
        try:
            words = load_object(path)
        except (OSError, ValueError):
            continue  # loading the model says so
        whole = [token for token in RARE_TOKENS if f"{token}</w>" in words]
        if whole and f"{identifier.lower()}</w>" not in words:
            raise InputError(
                f"The identifier {identifier!r} is not one token for {base.name}, which would read "
                f"it in pieces that mean other things. Take one of {', '.join(whole)}."
            )


def warn_of_identifier(subject: Subject, drive: Drive) -> None:
    """Say in the log that an identifier means something already, or that another subject has it.

    Not of who has been trained: a run keeps what it was taught.
    """
    if list_folder(drive.runs / folder_name(subject.name)):
        return
    words = known_words(REGISTRY["pocket"])
    assert words is not None  # it ships with the package
    if subject.identifier.lower() in {*words["nouns"], *words["colours"], *PEOPLE, *ANIMALS}:
        doubt = "is a word that means something, and training changes what"
    elif others := [
        one.name
        for one in list_subjects(drive)
        if one.identifier == subject.identifier and _key_of(one) != _key_of(subject)
    ]:
        doubt = f"is that of {others[0]}, too: a sentence that names both cannot tell them apart"
    else:
        return
    logger.warning(
        "The identifier %r %s. Before it is trained, choose another, such as %s.",
        subject.identifier, doubt, free_identifier(drive),
    )  # fmt: skip


def choose_identifier(drive: Drive, name: str) -> str:
    """Return the identifier on a subject's card, which its runs were taught, else a free one.

    Two subjects that share one could not be told apart in a sentence that names both.
    """
    try:
        return load_subject(drive, name).identifier
    except InputError:
        return free_identifier(drive)


def free_identifier(drive: Drive) -> str:
    """Return the first identifier of those offered that no subject has, else the first."""
    taken = {subject.identifier for subject in list_subjects(drive)}
    return next((token for token in RARE_TOKENS if token not in taken), RARE_TOKENS[0])


def card_path(drive: Drive, name: str) -> Path:
    """Return where a subject's card lies."""
    return drive.subject(name) / "subject.json"


def save_subject(drive: Drive, subject: Subject) -> Path:
    """Write the subject's card to subjects/<name>/subject.json.

    Spellings on a card stay where ``subject`` has none.

    Raises
    ------
    InputError
        When the card there is another's.
    """
    check_folder_is_its_own(subject, drive)
    path = card_path(drive, subject.name)
    subject = with_spellings(drive, [subject])[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_json(path, subject.to_record())


def check_folder_is_its_own(subject: Subject, drive: Drive) -> None:
    """Refuse a name that gives another's folder ("Rex!", "Rex"): their photos would mix."""
    try:
        other = load_subject(drive, subject.name).name
    except InputError:  # it has no card yet, or none that can be read
        return
    if other.casefold() != subject.name.casefold():
        raise InputError(
            f"The folder {drive.subject(subject.name)} is that of {other!r}. Give "
            f"{subject.name!r} a name that differs in letters or digits, or say {other!r}."
        )


def load_subject(drive: Drive, name: str, instead: str = "") -> Subject:
    """Read a subject's card; ``instead`` is what else may be given where there is none.

    Raises
    ------
    InputError
        When there is no such subject (the known ones are named) or its card is no card.
    S2iError
        When the disk does not give it.
    """
    path = card_path(drive, name)
    try:
        return Subject.from_record(load_object(path))
    except FileNotFoundError:
        known = ", ".join(subject.name for subject in list_subjects(drive)) or "none yet"
        raise InputError(
            f"There is no subject {name!r} in {drive.subjects} (known: {known}). "
            "Make one with notebooks/1_capture_dataset.ipynb, or with `python -m s2i_lib dataset "
            f'PHOTOS --subject "{name}" --class-noun NOUN`{instead}.'
        ) from None
    except OSError as error:  # the Drive's fault: the card itself may be whole
        raise S2iError(f"The card {path} cannot be read: {name_fault(error)}.") from error
    except ValueError as error:
        raise InputError(
            f"The card {path} cannot be read ({error}). Expected name, class_noun, identifier "
            "and kind as JSON. Make it again with `python -m s2i_lib dataset`."
        ) from error


def find_subject(drive: Drive, text: str) -> Subject:
    """Return the subject that NAME:CLASS_NOUN:IDENTIFIER says, or the one of that name.

    Raises
    ------
    InputError
        When ``text`` is neither.
    """
    if ":" in text:
        return Subject.parse(text)
    return load_subject(
        drive, text, ", or give NAME:CLASS_NOUN:IDENTIFIER, for instance Rex:dog:ohwx"
    )


def known_subjects(drive: Drive, first: Sequence[Subject] = ()) -> list[Subject]:
    """Return every subject whose name may be spoken: ``first``, then those on the Drive."""
    names = {_key_of(subject) for subject in first}
    first = with_spellings(drive, first)
    return [*first, *(one for one in list_subjects(drive) if _key_of(one) not in names)]


def with_spellings(drive: Drive, subjects: Sequence[Subject]) -> list[Subject]:
    """Return subjects with the spellings on their cards where they have none themselves."""
    on_cards = {_key_of(subject): subject.spellings for subject in list_subjects(drive)}
    return [replace(s, spellings=s.spellings or on_cards.get(_key_of(s), ())) for s in subjects]


def _key_of(subject: Subject) -> str:
    """What "Rex" and "rex" have in common: their folder; a name of signs alone has none."""
    try:
        return folder_name(subject.name)
    except InputError:
        return subject.name


def list_subjects(drive: Drive) -> list[Subject]:
    """List all subjects that have a readable card, by name."""
    subjects = []
    for folder in sorted(list_folder(drive.subjects)):
        if folder.name.startswith("."):  # half of a deleted one
            continue
        try:
            subjects.append(Subject.from_record(load_object(folder / "subject.json")))
        except (OSError, ValueError, InputError):
            continue  # a half-copied card must not hide the other subjects
    return subjects
