"""What can be said in the pocket model's world: nouns, colours, places, things worn, and how.

Everything here is data and grammar; `world.py` draws it. A word is here only if it changes the
picture: none of them means nothing.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass

from s2i_lib.photos.subject import RARE_TOKENS

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "black": (22, 22, 24),
    "gray": (135, 135, 138),
    "red": (205, 38, 42),
    "orange": (245, 140, 30),
    "yellow": (248, 218, 60),
    "green": (60, 160, 70),
    "blue": (45, 95, 205),
    "purple": (125, 60, 170),
    "pink": (247, 160, 190),
    "brown": (128, 78, 42),
}
COLOUR_NAMES = list(COLOURS)
SAME_COLOUR = {"grey": "gray", "violet": "purple"}  # what is heard -> what is painted
SIZES = {"small": ["small", "little", "tiny"], "big": ["big", "large", "huge"]}
COUNTS = ["one", "two", "three"]
PATTERNS = {"striped": "stripes", "spotted": "spots"}
# Identifiers for DreamBooth, whole tokens, never said in training: the library's own, and those
# that subjects were given by versions before.
IDENTIFIERS = [*RARE_TOKENS, "sks", "zwx", "ukj", "qvz", "xjy", "vlk", "wuf"]

# noun: icon [flags] [=other words for it]
# Flags: "-" keeps its own colours; "pale" recolours its light parts, "vivid" its saturated ones,
# "warm" those from red to yellow (no window and no water), otherwise the larger of "pale" and
# "vivid"; "no3d", "noflat" and "noother" leave out a look whose shape, or whose paint, is
# another; "is:COLOUR" names its own colour where the rule would be wrong ("is:" for none).
TABLE = {
    "animal": """
        cat: cat-face =kitten,kitty
        dog: dog-face =puppy
        mouse: mouse-face
        rabbit: rabbit-face =bunny
        hamster: hamster
        fox: fox
        bear: bear is:brown
        polar bear: polar-bear
        panda: panda
        koala: koala
        tiger: tiger-face
        lion: lion is:orange
        wolf: wolf
        raccoon: raccoon
        cow: cow-face is:
        pig: pig-face =piglet
        horse: horse-face is:brown =pony
        unicorn: unicorn pale is:
        zebra: zebra is:
        deer: deer is:brown
        sheep: ewe =lamb
        camel: camel is:orange
        giraffe: giraffe
        elephant: elephant is:gray
        hippo: hippopotamus =hippopotamus
        rhino: rhinoceros is:gray =rhinoceros
        kangaroo: kangaroo is:orange
        llama: llama =alpaca
        sloth: sloth
        hedgehog: hedgehog is:brown
        squirrel: chipmunk is:brown =chipmunk
        bat: bat is:brown
        monkey: monkey-face is:brown
        gorilla: gorilla
        frog: frog
        turtle: turtle is:green
        snake: snake
        lizard: lizard noother
        crocodile: crocodile =alligator
        dinosaur: t-rex
        dragon: dragon-face
        chicken: chicken =hen
        rooster: rooster is:
        chick: front-facing-baby-chick
        penguin: penguin is:black
        bird: bird no3d noflat
        parrot: parrot is:
        duck: duck is:
        swan: swan
        owl: owl is:brown
        eagle: eagle no3d noflat is:brown
        flamingo: flamingo
        peacock: peacock -
        whale: spouting-whale
        dolphin: dolphin
        fish: tropical-fish
        shark: shark
        octopus: octopus
        crab: crab is:red
        lobster: lobster
        jellyfish: jellyfish
        snail: snail is:brown
        butterfly: butterfly is:
        caterpillar: bug
        bee: honeybee is:yellow
        ladybug: lady-beetle
        spider: spider is:black
    """,
    "person": """
        man: man -
        woman: woman -
        boy: boy -
        girl: girl -
        baby: baby -
        grandfather: old-man - =grandpa
        grandmother: old-woman - =grandma
        princess: princess -
        prince: prince -
        doctor: health-worker - =nurse
        chef: cook - =cook
        farmer: farmer -
        police officer: police-officer - =policeman
        firefighter: firefighter - =fireman
        astronaut: astronaut -
        ninja: ninja -
        wizard: man-mage - =magician
        fairy: woman-fairy -
        mermaid: woman-merpeople -
        superhero: superhero -
        vampire: man-vampire -
        zombie: man-zombie -
        clown: clown-face -
        santa: santa-claus - =santa claus
    """,
    "toy": """
        robot: robot pale is:
        alien: alien is:green
        monster: alien-monster
        ghost: ghost
        snowman: snowman
        teddy bear: teddy-bear is:brown =teddy,stuffed animal
        skull: skull
        pumpkin: jack-o-lantern is:orange
        ball: soccer-ball pale is:white =football,soccer ball
        basketball: basketball is:orange
        balloon: balloon
        kite: kite -
        dice: game-die
        skateboard: skateboard noother
    """,
    "food": """
        apple: red-apple
        orange: tangerine -
        lemon: lemon
        banana: banana
        watermelon: watermelon -
        strawberry: strawberry
        cherry: cherries
        grapes: grapes
        pear: pear
        pineapple: pineapple
        avocado: avocado - is:green
        tomato: tomato
        carrot: carrot
        corn: ear-of-corn
        broccoli: broccoli
        pepper: bell-pepper noflat
        mushroom: mushroom is:red
        eggplant: eggplant
        bread: bread
        croissant: croissant
        pancakes: pancakes -
        cheese: cheese-wedge
        egg: egg
        burger: hamburger - =hamburger
        fries: french-fries - =french fries
        pizza: pizza -
        hot dog: hot-dog -
        sandwich: sandwich -
        taco: taco -
        popcorn: popcorn
        ice cream: soft-ice-cream
        donut: doughnut is: =doughnut
        cookie: cookie is:brown
        cake: birthday-cake
        cupcake: cupcake noother
        chocolate: chocolate-bar is:brown
        candy: candy noother
        lollipop: lollipop -
    """,
    "nature": """
        rose: rose
        sunflower: sunflower
        flower: hibiscus
        tulip: tulip
        tree: deciduous-tree
        palm tree: palm-tree
        pine tree: evergreen-tree
        christmas tree: christmas-tree
        cactus: cactus
        plant: potted-plant noflat is:green
        leaf: maple-leaf is:red
        sun: sun is:yellow
        moon: crescent-moon is:yellow
        star: star
        cloud: cloud
        rainbow: rainbow -
        snowflake: snowflake
        fire: fire =flame
        lightning: high-voltage
        earth: globe-showing-americas - =globe
        planet: ringed-planet
        volcano: volcano
        shell: spiral-shell =seashell
    """,
    "vehicle": """
        car: automobile
        bus: bus warm noother
        truck: delivery-truck
        taxi: taxi
        police car: police-car pale
        ambulance: ambulance pale
        fire truck: fire-engine
        tractor: tractor noother
        motorcycle: motorcycle vivid =motorbike
        bicycle: bicycle is: =bike
        train: locomotive vivid
        airplane: airplane pale is:white =plane
        helicopter: helicopter
        rocket: rocket pale =spaceship
        spacecraft: flying-saucer =flying saucer
        sailboat: sailboat warm =boat
        ship: ship pale is:
    """,
    "building": """
        house: house noother =home
        castle: castle is:
        tent: tent is:green
        church: church
    """,
    "thing": """
        chair: chair is:brown
        bed: bed vivid
        couch: couch-and-lamp =sofa
        light bulb: light-bulb =lamp
        bathtub: bathtub
        toilet: toilet
        door: door is:brown
        clock: alarm-clock is:red
        phone: telephone =telephone
        camera: camera is:
        television: television =tv
        computer: laptop pale =laptop
        book: closed-book
        pencil: pencil
        pen: pen
        scissors: scissors vivid
        key: key
        lock: locked
        hammer: hammer vivid is:
        sword: dagger pale noother
        umbrella: umbrella
        gift: wrapped-gift =present
        bell: bell
        candle: candle
        mug: hot-beverage is:white =cup,coffee
        teapot: teapot
        bottle: baby-bottle
        spoon: spoon is:gray
        knife: kitchen-knife is:gray
        box: package is:brown
        trophy: trophy is:yellow
        telescope: telescope is:
        heart: red-heart
        mirror: mirror
        envelope: envelope =letter
        magic wand: magic-wand -
        diamond: gem-stone =gem
        ring: ring is:
    """,
    "music": """
        guitar: guitar is:red
        drum: drum vivid is:
        violin: violin is:brown
        trumpet: trumpet
        saxophone: saxophone
        microphone: microphone
        piano: musical-keyboard
    """,
    "clothes": """
        shirt: t-shirt is:
        dress: dress
        coat: coat =jacket
        jeans: jeans =pants
        shoe: running-shoe is: =sneaker
        sock: socks noother is:
        backpack: backpack =bag
    """,
}


@dataclass(frozen=True)
class Thing:
    """A noun, what kind of thing it is, the icon that shows it, and how else it is said."""

    noun: str
    kind: str
    icon: str
    also: tuple[str, ...] = ()
    part: str = ""  # "-": never recoloured; "pale", "vivid", "warm": these; "": the larger
    colour: str | None = None  # its own colour; "": none can be named; None: the rule finds it
    without: tuple[str, ...] = ()  # looks that are left out


def _things() -> list[Thing]:
    things = []
    for kind, table in TABLE.items():
        for line in filter(None, map(str.strip, table.splitlines())):
            said, _, also = line.partition(" =")
            noun, _, rest = said.partition(": ")
            icon, *flags = rest.split()
            part = next((f for f in flags if f in ("-", "pale", "vivid", "warm")), "")
            own = next((f[3:] for f in flags if f.startswith("is:")), None)
            without = tuple(f[2:] for f in flags if f.startswith("no"))
            others = tuple(filter(None, also.split(",")))
            things.append(Thing(noun, kind, icon, others, part, own, without))
    return things


THINGS = _things()
NOUNS = [t.noun for t in THINGS]
BY_NOUN = {t.noun: t for t in THINGS}
LIVING = {"animal", "person", "toy"}  # who wears things, plays, and stands somewhere
PAINTABLE = [t.noun for t in THINGS if t.part != "-"]

# Words for several things at once; drawn as any of them.
KINDS = {
    "animal": [t.noun for t in THINGS if t.kind == "animal"],
    "pet": ["cat", "dog", "rabbit", "hamster", "bird", "fish"],
    "fruit": ["apple", "orange", "lemon", "banana", "strawberry", "cherry", "pear"],
    "toy": ["teddy bear", "ball", "robot", "kite"],
    "person": ["man", "woman", "boy", "girl"],
    "child": ["boy", "girl"],
    "face": ["man", "woman", "boy", "girl"],
}
KINDS_OF = {noun: [k for k, v in KINDS.items() if noun in v] for noun in NOUNS}

_PLURALS = {
    "mouse": "mice", "fish": "fish", "wolf": "wolves", "leaf": "leaves", "knife": "knives",
    "man": "men", "woman": "women", "person": "people", "child": "children", "sheep": "sheep",
    "deer": "deer", "policeman": "policemen", "fireman": "firemen", "spacecraft": "spacecraft",
    "dice": "dice", "police officer": "police officers", "snowman": "snowmen",
    "superhero": "superheroes",
}  # fmt: skip
# Said without an article, and never counted.
NO_ARTICLE = {
    "grapes", "scissors", "corn", "bread", "cheese", "fire", "broccoli", "popcorn", "chocolate",
    "pancakes", "fries", "french fries", "jeans", "pants", "lightning",
    "candy", "glasses", "sunglasses", "headphones", "santa", "santa claus",
}  # fmt: skip
COUNTABLE = [noun for noun in NOUNS if noun not in NO_ARTICLE]


@dataclass(frozen=True)
class Place:
    """A place: what it is called, how one says to be there, and where its ground is."""

    name: str
    ways: tuple[str, ...]
    ground: float = 0.86  # where things stand, as a share of the height; 0: they float


PLACES = [
    Place("beach", ("on a beach", "at the beach", "on the beach")),
    Place("sea", ("in the sea", "on the sea", "on the water", "in the ocean"), 0.74),
    Place("under water", ("under water", "underwater", "under the sea"), 0.0),
    Place("snow", ("in the snow",)),
    Place("forest", ("in the forest", "in a forest", "in the woods")),
    Place("desert", ("in the desert", "in a desert")),
    Place("mountains", ("in the mountains", "on a mountain")),
    Place("city", ("in the city", "in a city", "in town")),
    Place("street", ("on the street", "on a street", "on the road")),
    Place("garden", ("in the garden", "in a garden")),
    Place("meadow", ("in a meadow", "on the grass", "in a field", "in the park")),
    Place("farm", ("on a farm", "on the farm")),
    Place("moon", ("on the moon",)),
    Place("space", ("in space", "in outer space"), 0.0),
    Place("night sky", ("in the night sky", "under the stars"), 0.0),
    Place("clouds", ("in the clouds", "in the sky", "above the clouds"), 0.0),
    Place("rain", ("in the rain",)),
    Place("room", ("in a room", "in the room", "at home", "in the living room"), 0.88),
    Place("kitchen", ("in the kitchen", "in a kitchen"), 0.88),
    Place("stage", ("on stage", "on a stage", "on the stage"), 0.88),
]
PLACE_NAMES = [p.name for p in PLACES]
BY_PLACE = {p.name: p for p in PLACES}
# Where it is always night, or where night would not be seen.
NO_NIGHT = {"moon", "space", "night sky", "under water", "stage"}


@dataclass(frozen=True)
class Accessory:
    """Something worn or held: its name, how one says so, and what is painted in a colour."""

    name: str
    ways: tuple[str, ...]
    spot: str  # "head": on top; "eyes"; "ears"; "neck"; "back": behind; "hand": beside
    also: tuple[str, ...] = ()


_WORN = ("wearing {}", "wearing {}", "with {}", "in {}")
ACCESSORIES = [
    Accessory("hat", _WORN, "head", ("top hat",)),
    Accessory("cap", _WORN, "head", ("baseball cap",)),
    Accessory("crown", _WORN[:3], "head"),
    Accessory("party hat", _WORN, "head", ("birthday hat",)),
    Accessory("sunglasses", _WORN, "eyes"),
    Accessory("glasses", _WORN[:3], "eyes"),
    Accessory("headphones", _WORN[:3], "ears"),
    Accessory("bow", _WORN[:3], "head", ("ribbon",)),
    Accessory("scarf", _WORN, "neck"),
    Accessory("cape", _WORN, "back"),
    Accessory("balloon", ("with {}", "holding {}"), "hand"),
]
ACCESSORY_NAMES = [a.name for a in ACCESSORIES]
BY_ACCESSORY = {a.name: a for a in ACCESSORIES}

# What a picture is called says how it is drawn: shaded and lit, or flat.
TEMPLATES = {
    "shaded": ["a photo of {}", "a picture of {}", "a photograph of {}", "an image of {}"],
    "flat": ["a drawing of {}", "a sticker of {}", "an emoji of {}", "a painting of {}"],
}


def plural(word: str) -> str:
    """Return the plural of a noun of the world."""
    if word in _PLURALS:
        return _PLURALS[word]
    if word in NO_ARTICLE:
        return word
    if word.endswith(("s", "sh", "ch", "x")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word in ("tomato", "potato", "volcano") else "s")


def with_article(words: str) -> str:
    if words.split(" ")[-1] in NO_ARTICLE or words in NO_ARTICLE:
        return words
    is_vowel = words[0] in "aeiou" and not words.startswith(("uni", "uk"))
    return ("an " if is_vowel else "a ") + words


def on_ground(colour: str) -> str:
    """Return how one says that a ground has a colour: "on a white background"."""
    return f"on {with_article(colour)} background"


def on_background(noun: str, colour: str) -> str:
    """Return the plain prompt for a noun on a background, as the benchmark asks for it."""
    return f"{with_article(noun)} {on_ground(colour)}"


def at_place(noun: str, place: str) -> str:
    """Return the plain prompt for a noun at a place."""
    return f"{with_article(noun)} {BY_PLACE[place].ways[0]}"


def wearing(noun: str, accessory: str) -> str:
    """Return the plain prompt for a noun that wears or holds something."""
    return f"{with_article(noun)} {way_of_wearing(accessory)}"


def way_of_wearing(accessory: str) -> str:
    """Return how one says that something is worn or held: "wearing a hat"."""
    return BY_ACCESSORY[accessory].ways[0].format(with_article(accessory))


@functools.cache
def is_held_out(noun: str, relation: str, other: str) -> bool:
    """Say whether this pair is never trained on (one in twenty).

    `relation` is "on" (a background colour), "in" (a colour of its own), "at" (a place) or
    "wearing" (an accessory).
    """
    key = f"{noun}|{other}" if relation == "on" else f"{noun}|{relation} {other}"
    return zlib.crc32(key.encode()) % 20 == 0


def held_out(relation: str) -> list[tuple[str, str]]:
    """Return all pairs of a relation that are never trained on."""
    others = {
        "on": COLOUR_NAMES, "in": COLOUR_NAMES, "at": PLACE_NAMES, "wearing": ACCESSORY_NAMES,
    }[relation]  # fmt: skip
    return [(n, o) for n in NOUNS for o in others if is_held_out(n, relation, o)]


def known_words() -> dict:
    """Return what the library needs to know about the vocabulary (`words.json`)."""
    said = [w for t in THINGS for w in (t.noun, *t.also)] + list(KINDS)
    other = {w for ways in TEMPLATES.values() for t in ways for w in t.replace("{}", "").split()}
    other |= {w for p in PLACES for way in p.ways for w in way.split()}
    worn = {
        a.name: [
            w.format(with_article(n)) for n in (a.name, *a.also) for w in dict.fromkeys(a.ways)
        ]
        for a in ACCESSORIES
    }
    other |= {w for ways in worn.values() for way in ways for w in way.split()}
    other |= {"nothing", "a", "an", "the", "one", "on", "with", "and", "background", "at", "night"}
    colours = {**COLOURS, **{k: COLOURS[v] for k, v in SAME_COLOUR.items()}}
    return {
        "nouns": said,
        "plurals": {w: plural(w) for w in said},
        "colours": {k: list(v) for k, v in colours.items()},
        "sizes": [w for words in SIZES.values() for w in words],
        "counts": COUNTS,
        "patterns": list(PATTERNS),
        "places": {p.name: list(p.ways) for p in PLACES},
        "accessories": worn,
        "identifiers": IDENTIFIERS,
        "other": sorted(other),
    }
