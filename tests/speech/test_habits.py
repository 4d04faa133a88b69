"""What is said twice, begun and broken off, put right, or said out of politeness."""

import re

import pytest

from s2i_lib.errors import InputError
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.habits import REQUESTS
from s2i_lib.speech.prompt import make_prompt

REX = Subject("Rex", "dog")

VIOLIN = "a violin on a red background"
TWICE = f"""
{VIOLIN}? Can you please draw me {VIOLIN} | {VIOLIN}
A violin on a red background. A violin on a red background. | A violin on a red background
Draw a cat on a sofa. Draw a cat on a sofa. | a cat on a sofa
a cat on a a cat on a sofa | a cat on a sofa
a red car a red car on a beach | a red car on a beach
a a dog with a hat | a dog with a hat
the the moon over a lake | the moon over a lake
I want to see I want to see a castle on a hill | a castle on a hill
Can you draw, can you draw a horse in the snow? | a horse in the snow
Two cats. Can you draw two cats on a wall? | two cats on a wall
A violent on a red background? Can you draw me {VIOLIN}? | {VIOLIN}
a whale, a whale in the sea | a whale in the sea
a b- blue bird | a blue bird
a big... a big house on a hill | a big house on a hill
Please draw me a robot. A robot please. | a robot
Rex on a beach. Can you draw Rex on a beach? | a ohwx dog on a beach
"""
BROKEN_OFF = """
A, please paint a butterfly | a butterfly
A, please paint a butterfly. | a butterfly
The, um, can you draw a lighthouse? | a lighthouse
I, I want a picture of a ship | a ship
So a, draw me a ship | a ship
An... can you please make an owl? | an owl
Draw a. Draw a dragon over a village. | a dragon over a village
Please. Can you show me a panda? | a panda
Um. A panda eating bamboo. | A panda eating bamboo
With a, please draw a king with a crown | a king with a crown
"""
PUT_RIGHT = """
a dog, no, a cat on a sofa | a cat on a sofa
a dog, sorry, a cat | a cat
a dog, I mean a cat | a cat
a red car, no wait, a blue car | a blue car
a dog on a red, no, on a blue sofa | a dog on a blue sofa
a house in the forest, sorry, in the desert | a house in the desert
two dogs, or rather three dogs | three dogs
a cat on a table, no, a cat on a chair | a cat on a chair
draw a ship, I mean, a submarine | a submarine
a bird. No, sorry, a plane. | a plane
a red, no, blue car | a blue car
two, no three cats | three cats
a red car, actually a blue car | a blue car
a red car... wait, make it a blue car | a blue car
I want a horse, no actually a unicorn | a unicorn
a dog, no wait, a cat, no, a horse | a horse
Rex on the beach, sorry, in the mountains | a ohwx dog in the mountains
a dog with a hat, no, without a hat | a dog without a hat
A black, sorry white, horse | A white horse
a small, no, big elephant | a big elephant
a cat in red, no, blue, on a sofa | a cat in blue on a sofa
a car in red, no, blue, green and white | a car in blue, green and white
a dog, sorry a cat | a cat
"""
POLITE = """
Would you be so kind as to draw a fox? | a fox
Would you be so kind and paint me a fox? | a fox
I was wondering if you could draw a mill by a river | a mill by a river
Do you think you could draw me a tiger? | a tiger
It would be nice if you could paint a garden | a garden
It would be great to see a volcano | a volcano
If you could draw a whale, that would be great. | a whale
May I see a picture of a peacock? | a peacock
Could I please have a picture of a train? | a train
I'm hoping to see a waterfall | a waterfall
Kindly draw a teapot | a teapot
Can you kindly draw a teapot, thank you in advance? | a teapot
A teapot, pretty please | A teapot
A snowman, if you don't mind | A snowman
A snowman, that would be nice | A snowman
What I really want to see is a castle made of glass | a castle made of glass
What I'd like to see is a red balloon | a red balloon
If you don't mind, draw a bridge | a bridge
Please be so kind and draw a piano, cheers | a piano
I wanna, I wanna see a dragon | a dragon
gimme a picture of a pizza | a pizza
can u draw a dog pls | a dog
Would it be possible to see an elephant? | an elephant
I was thinking maybe a lion in a library | a lion in a library
I guess a penguin | a penguin
How about you draw a penguin? | a penguin
Can you also try to draw a penguin? | a penguin
I am wondering whether you could draw a penguin | a penguin
And now draw a penguin, right? | a penguin
My wish is a dog on a boat | a dog on a boat
The picture should show a dog on a boat | a dog on a boat
In the picture there should be a dog | a dog
Show me what a castle would look like in the snow | a castle in the snow
Alexa, show me a spaceship | a spaceship
mummy can you draw a princess | a princess
Good morning, please draw a spaceship | a spaceship
Hi can you draw a spaceship | a spaceship
No, a teapot | a teapot
A teapot, many thanks | A teapot
A teapot, if you wouldn't mind | A teapot
A teapot, is that possible? | A teapot
A girl reading a book, please | A girl reading a book
Hello. A dog on a hill. | A dog on a hill
Mummy, can you draw a horse | a horse
What the moon looks like from Mars | the moon from Mars
Try to draw a horse | a horse
"""
STAYS = """
a very very big dog | a very very big dog
A dog on a beach. The sun is shining. | A dog on a beach. The sun is shining
a road, no cars | a road, no cars
a dog and a dog | a dog and a dog
a red car on a beach. A red cat on a beach. | a red car on a beach. A red cat on a beach
a mean dog | a mean dog
a man saying sorry to a dog | a man saying sorry to a dog
Mr. Bean on a bike | Mr. Bean on a bike
a no parking sign | a no parking sign
a kind king | a kind king
knock knock on a wooden door | knock knock on a wooden door
St. Mark's square at night | St. Mark's square at night
an owl, a fox, a bear | an owl, a fox, a bear
a painting of a woman who wants to see the sea | a painting of a woman who wants to see the sea
a waiter, please note, with a tray | a waiter, please note, with a tray
mom, dad and me | mom, dad and me
dad can dance | dad can dance
a computer, a desk and a lamp | a computer, a desk and a lamp
good morning sunshine | good morning sunshine
a robot that is actually a toaster | a robot that is actually a toaster
a girl saying no to a boy | a girl saying no to a boy
just married couple on a beach | just married couple on a beach
a red no a blue car | a red no a blue car
A man who says no the whole day | A man who says no the whole day
A sign saying no the dogs stay out | A sign saying no the dogs stay out
A comic with oh no the dog ate my homework | A comic with oh no the dog ate my homework
A child saying no my friend | A child saying no my friend
A dog wait a moment | A dog wait a moment
A dog, wait a moment | A dog, wait a moment
A yes or no the question | A yes or no the question
A sad man, sorry the cat ate his fish | A sad man, sorry the cat ate his fish
A letter, sorry my love, on a table | A letter, sorry my love, on a table
A knight who is now actually the queen | A knight who is now actually the queen
Black no white keys | Black no white keys
A piano in black, no white keys | A piano in black, no white keys
A red wait blue light | A red wait blue light
A clock that shows two, oh, four | A clock that shows two, oh, four
A blue, oh blue, sea | A blue, oh blue, sea
A card that says thanks a million | A card that says thanks a million
A card that says thank you | A card that says thank you
A sign reading or whatever | A sign reading or whatever
A sign that says would it be possible | A sign that says would it be possible
A sign that says is that ok | A sign that says is that ok
A man who asks is it possible | A man who asks is it possible
My wish is granted by a genie | My wish is granted by a genie
The picture shows hanging on a wall | The picture shows hanging on a wall
I dream of flying over the city | I dream of flying over the city
I will take you home, a knight on a horse | I will take you home, a knight on a horse
I'll do the dishes, a man at a sink | I'll do the dishes, a man at a sink
Let me take the wheel, a pilot | Let me take the wheel, a pilot
Let's do lunch, two women | Let's do lunch, two women
Try to see the forest for the trees | Try to see the forest for the trees
Why don't we do it in the road | Why don't we do it in the road
Computer, make a wish | Computer, make a wish
Computer. A desk. A lamp. | Computer. A desk. A lamp
Dad. A grill. A garden. | Dad. A grill. A garden
What a robot thinks a cat looks like | What a robot thinks a cat looks like
What it looks like inside a cell | What it looks like inside a cell
What the bear saw looks like a ghost | What the bear saw looks like a ghost
What does a fox look like | What does a fox look like
Want to see a magic trick, a clown | Want to see a magic trick, a clown
I think I saw a ghost, a boy | I think I saw a ghost, a boy
Gimme shelter | Gimme shelter
no no no | no no no
A no entry sign | A no entry sign
a no smoking sign | a no smoking sign
red, white and blue | red, white and blue
Two or three dogs | Two or three dogs
a cat called No | a cat called No
Hello Kitty | Hello Kitty
Hey Jude | Hey Jude
Dear Santa | Dear Santa
Have a nice day | Have a nice day
"""


def rows(*tables: str) -> list[tuple[str, ...]]:
    lines = [line for table in tables for line in table.strip().splitlines()]
    return [tuple(line.split(" | ")) for line in lines]


@pytest.mark.parametrize(("said", "asked"), rows(TWICE))
def test_what_was_said_twice_is_drawn_once(said, asked):
    assert make_prompt(said, [REX]).text == asked


@pytest.mark.parametrize(("said", "asked"), rows(BROKEN_OFF))
def test_what_was_begun_and_broken_off_goes(said, asked):
    assert make_prompt(said, [REX]).text == asked


@pytest.mark.parametrize(("said", "asked"), rows(PUT_RIGHT))
def test_what_was_put_right_is_drawn_as_it_was_meant(said, asked):
    assert make_prompt(said, [REX]).text == asked


@pytest.mark.parametrize(("said", "asked"), rows(POLITE))
def test_politeness_goes(said, asked):
    assert make_prompt(said, [REX]).text == asked


@pytest.mark.parametrize(("said", "asked"), rows(STAYS))
def test_what_only_looks_like_a_habit_stays(said, asked):
    assert make_prompt(said, [REX]).text == asked


@pytest.mark.parametrize("way", REQUESTS)
def test_each_way_of_asking_is_what_its_row_says_and_goes(way):
    said = f"{way} a picture of a dog"
    assert re.match(REQUESTS[way], said)
    assert make_prompt(said, [REX]).text == "a dog"


RAMBLE = (
    "So yesterday I was walking along the river with my sister and we talked about all the things "
    "that we had seen on our holidays, and there were boats and bridges and a market with fish and "
    "then it rained. What I really want to see is a lighthouse on a cliff in a storm."
)


def test_of_a_ramble_what_was_wanted_is_drawn():
    prompt = make_prompt(RAMBLE, count_tokens=lambda text: len(text.split()) + 2, token_limit=32)
    assert prompt.text == "a lighthouse on a cliff in a storm"
    assert any("at the end" in note for note in prompt.notes)
    short = make_prompt(RAMBLE, count_tokens=lambda text: len(text.split()) + 2, token_limit=77)
    assert "lighthouse" in short.text and "boats" in short.text, "what fits is all drawn"


@pytest.mark.parametrize("said", ["please", "Draw. Draw me.", "Can you please? Thank you.", "a"])
def test_nothing_but_habits_is_refused_or_left_as_it_is(said):
    try:
        assert len(make_prompt(said).text) <= len(said)
    except InputError as error:
        assert "Nothing is left" in str(error)
