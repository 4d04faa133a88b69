"""From what was said to what is asked of the picture's model."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2i_lib.drawing.records import prompt_of
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import make_prompt, with_negative
from s2i_lib.speech.templates import article_for, prompts_in_turn

REX = Subject("Rex", "dog")
LUNA = Subject("Luna", "cat", "gawx")
OWL = Subject("Hugo", "owl", "alwx")


def count_words(text: str) -> int:
    """A tokenizer of words, with a start and an end mark."""
    return len(text.split()) + 2


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Rex on the beach.", "a ohwx dog on the beach"),
        ("rex on the beach", "a ohwx dog on the beach"),
        ("REX!", "a ohwx dog"),
        ("Rex's hat on a chair", "a ohwx dog's hat on a chair"),
        ("my dog Rex in the snow", "a ohwx dog in the snow"),
        ("our little dog, Rex, in the snow", "a little ohwx dog, in the snow"),
        ("Rex the dog on a sofa", "a ohwx dog on a sofa"),
        ("Rex and Luna on a sofa", "a ohwx dog and a cat on a sofa"),
        ("Luna and Rex on a sofa", "a gawx cat and a dog on a sofa"),
        ("Rex, and again Rex", "a ohwx dog, and again the ohwx dog"),
        ("a painting of Rex, in oil", "a painting of a ohwx dog, in oil"),
        ("Hugo on a branch", "a alwx owl on a branch"),
        ("Rex and Hugo on a branch", "a ohwx dog and an owl on a branch"),
        ("a happy Rex jumping", "a happy ohwx dog jumping"),
        ("wrecks on the beach", "a ohwx dog on the beach"),
        ("a man wrecks the car", "a man wrecks the car"),
        ("a T-Rex in the jungle", "a T-Rex in the jungle"),
        ("draw Rex", "a ohwx dog"),
        ("a dog named Rex on a train", "a ohwx dog on a train"),
        ("Hugo's dog Rex", "a alwx owl's dog"),
        ("a cat and Rex", "a cat and a ohwx dog"),
    ],
)
def test_names_become_identifier_and_noun(said, asked):
    assert make_prompt(said, [REX, LUNA, OWL]).text == asked


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Put Rex on the moon", "a ohwx dog on the moon"),
        ("Could you please put Rex on the moon?", "a ohwx dog on the moon"),
        ("Put Rex and Luna on the moon", "a ohwx dog and a cat on the moon"),
        ("Put a hat on Rex", "a ohwx dog with a hat"),
        ("Give Rex a hat", "a ohwx dog with a hat"),
        ("Make Rex wear a hat", "a ohwx dog wearing a hat"),
        ("I want Rex to fly over the city", "a ohwx dog flying over the city"),
        ("Make Rex and Luna dance", "a ohwx dog and a cat dancing"),
        ("Make Rex look happy", "a ohwx dog looking happy"),
        ("Make Rex big", "a big ohwx dog"),
        ("Let's put Rex in a boat", "a ohwx dog in a boat"),
        ("Have Rex sleeping on a sofa", "a ohwx dog sleeping on a sofa"),
        ("Make Rex look like a king", "a ohwx dog looking like a king"),
        ("Can Rex be a superhero?", "a ohwx dog as a superhero"),
        ("Turn Rex into a robot", "a ohwx dog as a robot"),
        ("Make Rex happy", "a happy ohwx dog"),
        ("Dress Rex up as a pirate", "a ohwx dog dressed as a pirate"),
        ("Let Rex look into the mirror", "a ohwx dog looking into the mirror"),
        ("Can Rex look out of the window?", "a ohwx dog looking out of the window"),
        ("Let Rex and Luna look at the moon", "a ohwx dog and a cat looking at the moon"),
        ("Draw a house and make it red", "a red house"),
        ("Rex on a beach. Make him blue.", "a blue ohwx dog on a beach"),
        ("Draw a castle, make it at night", "a castle at night"),
        ("two birds, make them green", "two green birds"),
        ("Rex and Luna look at the moon", "a ohwx dog and a cat look at the moon"),
        ("Rex to the rescue, give him a cape", "a ohwx dog to the rescue, give him a cape"),
        ("Give me Rex a dog on a beach", "a ohwx dog a dog on a beach"),
        ("Rex hide and seek", "a ohwx dog hide and seek"),
        ("Put Rex to bed", "Put a ohwx dog to bed"),
    ],
)
def test_an_order_is_drawn_as_what_is_seen_when_it_is_done(said, asked):
    assert make_prompt(said, [REX, LUNA]).text == asked


@pytest.mark.parametrize(
    "said",
    [
        "Workers cut wood and make it into chairs",
        "Children fold paper and make it a boat",
        "Boys build kites and make them red",
        "The boys paint a wall and make it red",
        "A girl who can cut wood and make it red",
        "A potter at work. Make it a sunny day",
        "Sailors catch a whale and let it go",
        "Cats that catch mice and let them run",
        "Robots that build cars and paint them red",
        "They buy an old bus and paint it yellow",
        "Two people hug a tree and give it a kiss",
        "Chocolate, let it melt",
        "a painter and paint the wall",
        "Put a cat in a box",
        "Put on your shoes",
        "Let sleeping dogs lie",
        "Make love, not war",
        "a man and give him a hat",
    ],
)
def test_what_is_no_order_is_drawn_as_it_was_said(said):
    assert make_prompt(said, [REX, LUNA]).text == said


@pytest.mark.parametrize(
    ("said", "noun", "asked"),
    [
        ("Two Rexes on a beach", "dog", "Two ohwx dogs on a beach"),
        ("three Rexes in a row", "toy fox", "three ohwx toy foxes in a row"),
        ("Two Rexes and a ball", "mouse", "Two ohwx mice and a ball"),
        ("Two Rexes", "baby", "Two ohwx babies"),
        ("Rexes on a beach", "dog", "ohwx dogs on a beach"),
        ("Rex's on the beach", "dog", "a ohwx dog on the beach"),
        ("Rex's hat on the beach", "dog", "a ohwx dog's hat on the beach"),
    ],
)
def test_several_of_a_subject_are_its_noun_in_the_plural(said, noun, asked):
    assert make_prompt(said, [Subject("Rex", noun, "ohwx")]).text == asked


@pytest.mark.parametrize(
    ("noun", "several"),
    [("dog", "dogs"), ("puppy", "puppies"), ("mouse", "mice"), ("knife", "knives")],
)
def test_several_of_a_subject_are_it_by_looks(noun, several):
    rex = Subject("Rex", noun)
    prompt = make_prompt("Two Rexes on the beach", [rex], count_tokens=count_words)
    assert prompt.subjects == (rex,) and prompt.by_looks == [rex]
    [(start, end)] = prompt.marks
    assert prompt.text[start:end] == f"ohwx {several}"


def test_chosen_subject_gets_the_identifier_and_others_are_told():
    prompt = make_prompt("Rex and Luna on a sofa", [REX, LUNA], chosen=LUNA)
    assert prompt.text == "a dog and a gawx cat on a sofa"
    assert prompt.subjects == (LUNA, REX)
    assert any("Rex became a dog" in note for note in prompt.notes)


def test_chosen_subject_that_was_not_named_is_told():
    prompt = make_prompt("a house", [REX], chosen=REX)
    assert (prompt.text, prompt.subjects) == ("a house", ())
    assert any("Rex was not named" in note for note in prompt.notes)


def test_name_that_was_guessed_is_told():
    assert any("'Reks'" in note for note in make_prompt("Reks in a boat", [REX]).notes)
    assert make_prompt("Rex in a boat", [REX]).notes == ()


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Um, can you please draw me a dog with a hat?", "a dog with a hat"),
        ("Okay, so, I want to see a castle on a hill.", "a castle on a hill"),
        ("Can you make a picture of a red car, please?", "a red car"),
        ("Could you, uh, paint me a, um, blue house?", "a blue house"),
        ("I'd like a picture of two cats, thank you.", "two cats"),
        ("Please draw me an owl", "an owl"),
        ("Let's see a horse on the moon", "a horse on the moon"),
        ("show me a train in the mountains", "a train in the mountains"),
        ("Uh... I would love to see a whale", "a whale"),
        ("make me an image of a boat", "a boat"),
        ("Hey there, generate a forest in autumn for me", "a forest in autumn"),
        ("well, you know, a pirate", "a pirate"),
        # what carries meaning stays
        ("paint on a wall", "paint on a wall"),
        ("a well in the desert", "a well in the desert"),
        ("a man drawing a picture of a horse", "a man drawing a picture of a horse"),
        ("a painting of a ship", "a painting of a ship"),
        ("a photo of a mountain", "a photo of a mountain"),
        ("a kind of blue bird", "a kind of blue bird"),
        ("a child who wants to see the sea", "a child who wants to see the sea"),
        ("a street like in Paris", "a street like in Paris"),
        ("so many birds", "many birds"),
        ("Hello Kitty on a bike", "Hello Kitty on a bike"),
        ("a thank you card", "a thank you card"),
        ("the letter m on a door", "the letter m on a door"),
    ],
)
def test_habits_go_and_meaning_stays(said, asked):
    assert make_prompt(said).text == asked


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("2 cats on a sofa", "two cats on a sofa"),
        ("a street in the 1920s", "a street in the 1920s"),
        ("a number 7 on a door", "a number 7 on a door"),
        ("at 5 pm in winter", "at 5 pm in winter"),
        ("a size 12 shoe", "a size 12 shoe"),
        ("Apollo 11 on the moon", "Apollo 11 on the moon"),
        ("a PlayStation 5 pad and 2 cats", "a PlayStation 5 pad and two cats"),
        ("In Paris 3 cats sit on a roof", "In Paris three cats sit on a roof"),
        ("On Monday 4 children", "On Monday four children"),
        ("A beach. And 3 umbrellas.", "A beach. And three umbrellas"),
        ("Two Dogs And 3 Cats In A Park", "Two Dogs And three Cats In A Park"),
        ("On YouTube 3 cats", "On YouTube three cats"),
        ("100 balloons", "100 balloons"),
        ("3.5 cats", "3.5 cats"),
        ("a cat comma a dog full stop", "a cat, a dog"),
        ("a comma butterfly", "a comma butterfly"),
        ("A tree on a blue back ground.", "A tree on a blue background"),
    ],
)
def test_numbers_and_marks_behave(said, asked):
    assert make_prompt(said).text == asked


@pytest.mark.parametrize(
    ("said", "negative"),
    [
        ("a street without cars", "cars"),
        ("a street without any cars or people at night", "cars, people"),
        ("a beach with no people", "people"),
        ("a man without a hat and a dog", "hat"),
        ("a field, no trees, no fences", "trees, fences"),
        ("a house, but no garden", "garden"),
        ("a park without anyone in it", "people"),
        ("a man who doesn't have a hat", "hat"),
        ("a dog that does not wear a collar on a beach", "collar"),
        ("a man not wearing a hat in the rain", "hat"),
        ("a woman wearing no shoes", "shoes"),
        ("There should be no people on the beach", "people"),
        ("There shouldn't be any people on the beach", "people"),
        ("a street. I don't want any cars or people", "cars, people"),
        ("a boy who does not want his soup", ""),
        ("a girl who doesn't have to go to bed", ""),
        ("A boy with no shoes playing football and tennis", "shoes"),
        ("A dog without a collar running in the park", "collar"),
        ("A man without a hat sitting on a chair", "hat"),
        ("A house without windows painted red", "windows"),
        ("a girl without shoes dressed in blue", "shoes"),
        ("a room without clothing lying on the floor", "clothing"),
        ("a park without dogs barking or children playing", "dogs, children"),
        ("a man with no coat and scarf standing in the snow", "coat, scarf"),
        ("a street without a painting on the wall", "painting"),
        ("a house without a swimming pool", "swimming pool"),
        ("a city without cars or any flying saucers", "cars, flying saucers"),
        ("a kitchen without running water", "running water"),
        ("a street with no parking signs", "parking signs"),
        ("a street without cars, people, or bikes", "cars, people, bikes"),
        ("a house with no windows, doors or a roof", "windows, doors, roof"),
        ("a garden without a fence, a red house and a tree", "fence"),
        ("a kitchen with neither chairs nor tables", "chairs, tables"),
        ("a kitchen without either chairs or tables", "chairs, tables"),
        ("a man who isn't wearing a hat", "hat"),
        ("a landscape that doesn't contain any people", "people"),
        ("a beach with nobody on it", "people"),
        ("an empty beach, nobody there", "people"),
        ("no cars, no people, just a road", "cars, people"),
        ("A lake, no boats, a swan or a duck on it", "boats"),
        ("A street with no cars, only bikes or scooters", "cars"),
        ("A sky without clouds, a sun or a moon over the hills", "clouds"),
        ("A man without a beard, short hair, brown or grey eyes", "beard"),
        ("A man without a beard, brown or grey eyes", "beard"),
        ("A girl without shoes, dancing or jumping in the rain", "shoes"),
        ("A forest with no leaves, bare trees or bushes", "leaves"),
        ("A plate with no meat, potatoes or rice on it", "meat, potatoes, rice"),
        ("No smoking, a sign on a wall", ""),
        ("No man is an island, a small island", ""),
        ("No Face from Spirited Away, on a bridge", ""),
        ("No problem, a smiling man", ""),
        ("No time to die, a spy", ""),
        ("A neither big nor small dog", ""),
        ("A sad clown, nobody laughs", ""),
        ("a street with cars", ""),
        ("a no parking sign", ""),
        ("it is no longer raining", ""),
    ],
)
def test_what_is_left_out_becomes_negative(said, negative):
    prompt = make_prompt(said)
    assert prompt.negative == negative
    assert prompt.text == said  # as well, not instead


@pytest.mark.parametrize(
    ("given", "negative"),
    [
        (None, "cars, people, blurry"),
        ("", "cars, people"),
        (" snow ", "cars, people, snow"),
    ],
)
def test_the_models_own_negative_prompt_joins_what_was_said_unless_another_is_given(
    given, negative
):
    prompt = make_prompt("a street without cars or people")
    assert with_negative(prompt, given, "blurry").negative == negative
    assert with_negative(make_prompt("a street"), None, "").negative == ""


def test_padding_goes_first_and_nothing_is_cut_in_silence():
    said = "a very really big house with a red door and a garden"
    short = make_prompt(said, count_tokens=count_words, token_limit=12)
    assert "really" not in short.text
    assert "red door and a garden" in short.text
    assert any("was left out" in note for note in short.notes)
    long = make_prompt(said, count_tokens=count_words, token_limit=8)
    assert long.text == "a big house with a red"
    [note] = [note for note in long.notes if "so 'door and a garden' was left out" in note]
    assert "has 12 tokens and the model reads 8" in note
    far = make_prompt(f"{said} and Rex", [REX], count_tokens=count_words, token_limit=8)
    assert far.text == long.text
    assert far.subjects == ()
    assert make_prompt(said, count_tokens=count_words).notes == ()


@pytest.mark.parametrize("said", ["", "  ", "um, please draw me", "...", "Thank you."])
def test_nothing_to_draw_is_refused(said):
    with pytest.raises(InputError, match="Nothing is left to draw"):
        make_prompt(said)


def read_back(prompt):
    """Return it as a picture's record gives it back: without what was to be said at the time."""
    return prompt_of(json.loads(json.dumps(prompt.to_json())) | {"prompt": prompt.text})


def test_record_round_trip():
    prompt = make_prompt("Rex and Luna without cars", [REX, LUNA], chosen=LUNA)
    assert read_back(prompt) == replace(prompt, notes=())


@pytest.mark.parametrize(
    ("words", "article"),
    [("owl", "an"), ("unicorn", "a"), ("umbrella", "an"), ("hour", "an"), ("one-eyed cat", "a")],
)
def test_articles_go_by_sound(words, article):
    assert article_for(words) == article


def test_rows_of_prompts_take_turns_and_so_do_the_prompts_of_a_row():
    """In one round each row has as many turns as another, and each of its prompts as many."""
    rows = ("a dog", "a red dog | a green dog", "dogs|two dogs|three dogs")
    assert prompts_in_turn(rows[:2], 5) == ["a dog", "a red dog", "a dog", "a green dog", "a dog"]
    many = prompts_in_turn(rows, 18)
    counts = [many.count(p) for p in ("a dog", "a red dog", "a green dog", "two dogs")]
    assert len(many) == 18 and counts == [6, 3, 3, 2]
    assert prompts_in_turn(rows, 7) == many[:7], "more of them begin with the same"


SAID = """a the Rex Luna rex's um please draw me picture of without no cars and , . ? 2 comma dog
beach on wrecks you know so can my"""


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SAID.split()), max_size=14))
def test_any_sentence_gives_a_prompt_or_is_refused(words):
    try:
        prompt = make_prompt(" ".join(words), [REX, LUNA])
    except InputError:
        return
    assert prompt.text == prompt.text.strip(" ,.;?!")
    assert "  " not in prompt.text
    assert "Rex" not in prompt.text
    # what was drawn with its identifier is the first subject, and only that
    assert ("ohwx" in prompt.text) == (prompt.subjects[:1] == (REX,))
    assert read_back(prompt) == replace(prompt, notes=(), near_names=())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("राम", "राम on a beach"),
        ("रामा", "draw रामा on a beach"),  # ends in a sign
        ("Renée", "my Rene\u0301e on a beach"),
        ("Rene\u0301e", "please draw me Rene\u0301e on a beach"),
        ("สมชาย", "สมชาย on a beach"),
    ],
)
def test_a_name_is_replaced_with_all_signs_of_its_letters(name, said):
    assert make_prompt(said, [Subject(name, "man")]).text == "a ohwx man on a beach"


@pytest.mark.parametrize(
    ("said", "negative"),
    [
        ("a room without any furniture and without windows", "furniture, windows"),
        ("a street without cars and no people", "cars, people"),
        ("a room with no chairs and with no tables or lamps", "chairs, tables, lamps"),
    ],
)
def test_what_is_left_out_twice_becomes_two_negatives(said, negative):
    assert make_prompt(said).negative == negative


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("a (red:1.3) car", "a red car"),
        ("a car, <lora:x:0.8>", "a car"),
        ("<lora:x:0.8> a ((blue)) cat", "a blue cat"),
        ("a (tall house:0.7) on a [hill:1.2]", "a tall house on a hill"),
        ("(Rex:1.2) on a beach", "a ohwx dog on a beach"),
        ("a [cat:dog:0.5] on the beach", "a dog on the beach"),
        ("[red] car, {blue|green} house", "red car, blue house"),
        ("{{{cat}}} in snow", "cat in snow"),
        ("cat::2 dog::1", "cat, dog"),
        ("a dog --no hat --ar 16:9 --style raw", "a dog, no hat"),
        ("/imagine prompt: a cat", "a cat"),
        ("a cat, embedding:easy-negative", "a cat"),
        ("(cat)1.2 in (snow)++ on ice++", "cat in snow on ice"),
        ("a cat BREAK a dog", "a cat, a dog"),
        ("__animal__ on a beach", "animal on a beach"),
        (r"a cat \(animal\)", "a cat (animal)"),
        ("a ((red:1.2)) [car:0.3]", "a red car"),
    ],
)
def test_weights_as_other_programs_write_them_are_left_out_and_told(typed, asked):
    prompt = make_prompt(typed, [REX])
    assert prompt.text == asked
    assert any("other programs" in note for note in prompt.notes)


@pytest.mark.parametrize(
    "typed",
    [
        "a cat (sitting) on a sofa",
        "a clock at 10:30",
        "ratio 3:4",
        "a well-known dog",
        "a cat+dog in snow",
    ],
)
def test_brackets_and_colons_without_weights_stay(typed):
    assert (make_prompt(typed).text, make_prompt(typed).notes) == (typed, ())
