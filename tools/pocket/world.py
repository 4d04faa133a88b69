"""The pocket model's world: 64 px sticker scenes of things that people say, with their captions.

One kind of object in one of two appearances, on one of ten background colours, sometimes small or
big, sometimes two or three of them, sometimes in another colour. Little else varies: with two
cores, every variation that nobody asks for is paid for with shapes that are not learned.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tools.pocket.training import work_folder

SIZE_PX = 64

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
}
COLOUR_NAMES = list(COLOURS)
SAME_COLOUR = {"grey": "gray", "violet": "purple"}  # what is heard -> what is painted
SIZES = {"small": ["small", "little", "tiny"], "big": ["big", "large", "huge"]}
COUNTS = ["one", "two", "three"]
# Identifiers for DreamBooth: rare letters, whole tokens, each with an embedding of its own.
# The last eleven are, like "ohwx", whole in CLIP's vocabulary, too. The tokenizer that ships got
# them afterwards (tools/pocket/identifiers.py).
IDENTIFIERS = [
    "sks", "ohwx", "zwx", "ukj", "qvz", "xjy", "vlk", "wuf",
    "flwx", "gawx", "okwx", "alwx", "miwx", "scwx", "wiwx", "arwx", "ilwx", "wawx", "azwx",
]  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """A noun, the icon that shows it, the two emoji sets it is taken from, and how it is said."""

    noun: str
    icon: str
    sets: str  # two of: n(oto), f(luent), t(wemoji); the pair whose shapes agree best
    also: tuple[str, ...] = ()  # other words for it, as often said
    recolour: str = ""  # "vivid": its saturated parts take a colour; "pale": its light parts do


def _things() -> list[Thing]:
    # noun: icon sets [recolour] [=other words]
    table = """
    cat: cat-face nt vivid =kitten,kitty
    dog: dog-face nt vivid =puppy
    mouse: mouse-face nt
    rabbit: rabbit-face nt pale =bunny
    fox: fox nf vivid
    bear: bear nf vivid
    panda: panda nf
    tiger: tiger-face nf
    lion: lion nf
    cow: cow-face nf
    pig: pig-face nt vivid
    frog: frog nt vivid
    chicken: chicken nf =hen
    penguin: penguin nt
    bird: bird nt vivid
    duck: duck nt
    owl: owl nf
    horse: horse-face nt vivid =pony
    bee: honeybee nf
    turtle: turtle nt
    snake: snake ft vivid
    whale: whale ft
    fish: fish nf vivid
    elephant: elephant ft
    dinosaur: t-rex nf vivid
    butterfly: butterfly nt vivid
    spider: spider nt
    apple: red-apple nf
    orange: tangerine nt
    lemon: lemon nt
    banana: banana nt
    watermelon: watermelon nt
    strawberry: strawberry nf
    pineapple: pineapple ft
    carrot: carrot nf
    mushroom: mushroom ft vivid
    burger: hamburger nf =hamburger
    pizza: pizza nf
    hot dog: hot-dog nf
    ice cream: soft-ice-cream nt
    donut: doughnut ft =doughnut
    cake: birthday-cake nt
    egg: egg nf
    cheese: cheese-wedge nt
    rose: rose nt vivid
    sunflower: sunflower nf
    flower: hibiscus nf vivid
    cactus: cactus nf
    tree: deciduous-tree nt
    sun: sun nt
    moon: crescent-moon nf
    star: star nf vivid
    cloud: cloud nf
    rainbow: rainbow nt
    snowflake: snowflake ft
    car: automobile nt vivid
    bus: bus nf vivid
    truck: delivery-truck ft vivid
    bicycle: bicycle ft vivid =bike
    train: locomotive nt
    airplane: airplane nf =plane
    helicopter: helicopter nf vivid
    rocket: rocket nf =spaceship
    sailboat: sailboat ft =boat
    balloon: balloon nt vivid
    house: house nf vivid =home
    chair: chair nf vivid
    clock: alarm-clock nt vivid
    phone: telephone nf vivid =telephone
    camera: camera nt
    book: closed-book nf vivid
    pencil: pencil nt
    key: key nf
    umbrella: umbrella nt vivid
    gift: wrapped-gift nt vivid =present
    crown: crown nf
    hat: top-hat nt
    glasses: glasses nt
    sunglasses: sunglasses nf
    shirt: t-shirt nt vivid
    dress: dress nt vivid
    shoe: running-shoe nt vivid =sneaker
    backpack: backpack nf vivid =bag
    ball: soccer-ball nt =football
    teddy bear: teddy-bear nf vivid =stuffed animal
    guitar: guitar nf vivid
    robot: robot nt
    ghost: ghost nt pale
    pumpkin: jack-o-lantern nt
    snowman: snowman ft
    heart: red-heart nf vivid
    mug: hot-beverage nt pale =cup,coffee
    teapot: teapot nf vivid
    bowl: bowl-with-spoon nf vivid
    vase: amphora nf vivid
    candle: candle nt
    plant: potted-plant nt
    man: man nf
    woman: woman nf
    baby: baby nf
    """
    things = []
    for line in filter(None, map(str.strip, table.splitlines())):
        line, _, also = line.partition(" =")
        noun, _, rest = line.partition(": ")
        icon, sets, *recolour = rest.split()
        words = tuple(filter(None, also.split(",")))
        things.append(Thing(noun, icon, sets, words, recolour[0] if recolour else ""))
    return things


THINGS = _things()
NOUNS = [t.noun for t in THINGS]
BY_NOUN = {t.noun: t for t in THINGS}

# Words for several things at once; drawn as any of them.
KINDS = {
    "animal": "cat dog mouse rabbit fox bear panda tiger lion pig frog penguin bird duck horse",
    "pet": "cat dog rabbit bird fish",
    "fruit": "apple orange lemon banana strawberry pineapple",
    "food": "pizza burger cake donut",
    "toy": "teddy_bear ball robot car",
    "vehicle": "car bus truck bicycle train",
    "person": "man woman baby",
    "face": "man woman baby",
}
KINDS_OF = {
    k: [w.replace("_", " ") for w in v.split() if w.replace("_", " ") in BY_NOUN]
    for k, v in KINDS.items()
}

_PLURALS = {
    "mouse": "mice", "fish": "fish", "wolf": "wolves", "leaf": "leaves", "knife": "knives",
    "man": "men", "woman": "women", "person": "people", "grapes": "grapes", "scissors": "scissors",
    "glasses": "glasses", "sunglasses": "sunglasses", "corn": "corn", "bread": "bread",
    "cheese": "cheese", "fire": "fire", "coffee": "coffees", "food": "food",
}  # fmt: skip
NO_ARTICLE = {"grapes", "scissors", "glasses", "sunglasses", "corn", "bread", "cheese", "fire"}
NO_ARTICLE |= {"food"}

TEMPLATES = [
    "a picture of {}", "a photo of {}", "a drawing of {}", "a sticker of {}", "an image of {}",
    "an emoji of {}", "an icon of {}", "a painting of {}", "a photograph of {}",
]  # fmt: skip


def plural(word: str) -> str:
    """Return the plural of a noun of the world."""
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("s", "sh", "ch", "x")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word in ("tomato", "potato") else "s")


def with_article(words: str) -> str:
    if words in NO_ARTICLE:
        return words
    return ("an " if words[0] in "aeiou" and not words.startswith(("uni", "uk")) else "a ") + words


def on_background(noun: str, colour: str) -> str:
    """Return the plain prompt for a noun on a background, as the benchmark asks for it."""
    return f"{with_article(noun)} on {with_article(colour)} background"


def is_held_out(noun: str, colour: str) -> bool:
    """Say whether this noun on this background is never trained on (one pair in twenty)."""
    return zlib.crc32(f"{noun}|{colour}".encode()) % 20 == 0


HELD_OUT = [(n, c) for n in NOUNS for c in COLOURS if is_held_out(n, c)]


@functools.cache
def icons() -> np.ndarray:
    """Return the drawn icons: uint8 RGBA, shape (nouns, 2, ICON_PX, ICON_PX, 4)."""
    file = work_folder() / "icons.npz"
    if not file.exists():
        raise FileNotFoundError(
            f"No drawn icons: {file} is missing. Draw them first: pip install -e '.[pocket]', then "
            "python -m tools.pocket.icons"
        )
    with np.load(file) as drawn:
        return drawn["rgba"]


def recolour(rgba: np.ndarray, colour: str, which: str = "vivid") -> np.ndarray:
    """Return the icon with its saturated ("vivid") or its light ("pale") parts in `colour`."""
    pixels = rgba.astype(np.float32) / 255
    rgb = pixels[..., :3]
    value = rgb.max(-1)
    saturation = (value - rgb.min(-1)) / np.maximum(value, 1e-5)
    chosen = saturation > 0.25 if which == "vivid" else (saturation <= 0.25) & (value > 0.3)
    if not (chosen & (pixels[..., 3] > 0.5)).any():
        return rgba
    # Keep the light and shade of the icon, stretched so that its lightest part is the colour.
    light = value / max(float(np.quantile(value[chosen & (pixels[..., 3] > 0.5)], 0.9)), 1e-5)
    tint = np.array(COLOURS[colour], np.float32) / 255
    out = pixels.copy()
    out[..., :3] = np.where(chosen[..., None], np.minimum(light[..., None] * tint, 1), rgb)
    return (out * 255).round().astype(np.uint8)


def background(rng: np.random.Generator, colour: str) -> Image.Image:
    """Return a square of nearly one colour: a slight tone, and a slight slope half of the time."""
    tone = np.array(COLOURS[colour], np.float32) + rng.normal(0, 4, 3)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.choice([0, 14])
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / (SIZE_PX - 1) - 0.5
    ramp = (np.cos(angle) * x + np.sin(angle) * y) * slope
    return Image.fromarray(np.clip(tone + ramp[..., None], 0, 255).astype(np.uint8))


def paste(
    onto: Image.Image, rgba: np.ndarray, size_px: int, x: float, y: float, flip: bool
) -> None:
    """Put an icon of `size_px` with its centre at (x, y) pixels."""
    icon = Image.fromarray(rgba)
    if flip:
        icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    icon = icon.resize((size_px, size_px), Image.Resampling.LANCZOS)
    onto.paste(icon, (round(x - size_px / 2), round(y - size_px / 2)), icon)


# Where the centres are, in pixels, and how large each object is.
PLACES = {1: [(32, 32)], 2: [(17, 32), (47, 32)], 3: [(32, 17), (17, 46), (47, 46)]}
SIZES_PX = {1: 49, 2: 30, 3: 28}
SMALL_PX, BIG_PX = 26, 61


@dataclass(frozen=True)
class Scene:
    """What is to be seen, apart from its jitter; `words()` says it, `paint()` draws it."""

    noun: str
    look: int = 0  # which of the two appearances
    colour: str = "white"  # of the background
    size: str = ""  # "", "small" or "big"
    count: int = 1
    painted: str = ""  # colour of the object; "" is its own


def random_scene(
    rng: np.random.Generator,
    noun: str = "",
    colour: str = "",
    variety: float = 1.0,
    second_look: float = 0.5,
) -> Scene:
    """Draw a scene at random.

    `variety` scales how often it is more than one plain object, `second_look` is how often the
    other of the two appearances is taken.
    """
    while True:
        n = noun or NOUNS[rng.integers(len(NOUNS))]
        c = colour or COLOUR_NAMES[rng.integers(len(COLOUR_NAMES))]
        if (noun and colour) or not is_held_out(n, c):
            break
    size, count, painted = "", 1, ""
    roll = rng.random() / max(variety, 1e-9)
    if roll < 0.06:
        size = "small"
    elif roll < 0.12:
        size = "big"
    elif roll < 0.19:
        count = 2
    elif roll < 0.26:
        count = 3
    if BY_NOUN[n].recolour and rng.random() < 0.3 * variety:
        painted = str(rng.choice([x for x in COLOUR_NAMES if x not in (c, "gray")]))
    look = int(rng.random() < second_look)
    return Scene(n, look, c, size, count, painted)


def paint(rng: np.random.Generator, scene: Scene, loose: bool = False) -> np.ndarray:
    """Draw the scene: uint8 RGB, shape (64, 64, 3).

    `loose` places, sizes and turns things more freely than the scenes that the U-Net learns, so
    that whoever judges pictures does not depend on where exactly things are.
    """
    rgba = icons()[NOUNS.index(scene.noun), scene.look]
    if scene.painted:
        rgba = recolour(rgba, scene.painted, BY_NOUN[scene.noun].recolour)
    canvas = background(rng, scene.colour)
    flip = False
    if loose:
        angle, flip = rng.uniform(-12, 12), rng.random() < 0.5
        rgba = np.asarray(Image.fromarray(rgba).rotate(angle, Image.Resampling.BICUBIC))
    size_px = SIZES_PX[scene.count] + int(rng.integers(-1, 2))
    if scene.size:
        size_px = BIG_PX if scene.size == "big" else SMALL_PX + int(rng.integers(-1, 2))
    reach = 0 if scene.size == "big" else 1
    if loose:
        size_px, reach = round(size_px * rng.uniform(0.88, 1.1)), reach + 3
    for x, y in PLACES[scene.count]:
        dx, dy = rng.integers(-reach, reach + 1, 2)
        paste(canvas, rgba, size_px, x + dx, y + dy, flip)
    return np.asarray(canvas)


def words(rng: np.random.Generator, scene: Scene, aside: list[str] | None = None) -> str:
    """Say the scene in one of the ways that people do.

    `aside` are words that mean nothing here; now and then one is put in as an adjective, so that
    the model learns to read past what it does not know. Identifiers are never said: DreamBooth is
    to find tokens that mean nothing yet, not tokens that the model has learned to pass over.
    """
    thing = BY_NOUN[scene.noun]
    noun = scene.noun
    if thing.also and rng.random() < 0.3:
        noun = str(rng.choice(list(thing.also)))
    if rng.random() < 0.02:
        noun = str(rng.choice([k for k, v in KINDS_OF.items() if scene.noun in v] or [noun]))
    before = []
    if aside and rng.random() < 0.04:
        before.append(str(rng.choice(aside)))
    if scene.size:
        before.append(str(rng.choice(SIZES[scene.size])))
    if scene.painted:
        same = [k for k, v in SAME_COLOUR.items() if v == scene.painted]
        before.append(str(rng.choice([scene.painted] * 4 + same)))
    if scene.count > 1:
        said = " ".join([COUNTS[scene.count - 1], *before, plural(noun)])
    else:
        said = " ".join([*before, noun])
        roll = rng.random()
        if roll < 0.88:
            said = with_article(said)
        elif roll < 0.94:
            said = ("one " if roll < 0.91 and noun not in NO_ARTICLE else "the ") + said
    if rng.random() < 0.75:
        colour = scene.colour
        if rng.random() < 0.3:
            colour = str(rng.choice([k for k, v in SAME_COLOUR.items() if v == colour] or [colour]))
        where = rng.choice(["on", "on", "on", "with", ","])
        article = "" if where == "," else (" an" if colour[0] in "aeiou" else " a")
        said += (where if where == "," else f" {where}") + f"{article} {colour} background"
    if rng.random() < 0.2:
        said = TEMPLATES[rng.integers(len(TEMPLATES))].format(said)
    return said


def known_words(unseen: Collection[str] = ()) -> dict:
    """Return what the library needs to know about the vocabulary (`words.json`).

    `unseen` are those of its nouns that the weights beside it were never shown; weights that were
    trained on this world have none.
    """
    said = [w for t in THINGS for w in (t.noun, *t.also)] + list(KINDS_OF)
    other = {w for t in TEMPLATES for w in t.replace("{}", "").split()}
    other |= {"a", "an", "the", "one", "on", "with", "background"}
    colours = {**COLOURS, **{k: COLOURS[v] for k, v in SAME_COLOUR.items()}}
    return {
        "nouns": said,
        "plurals": {w: plural(w) for w in said},
        "colours": {k: list(v) for k, v in colours.items()},
        "sizes": [w for words in SIZES.values() for w in words],
        "counts": COUNTS,
        "identifiers": IDENTIFIERS,
        "other": sorted(other),
        "unseen": sorted(unseen),
    }


def contact_sheet(
    pictures: list[np.ndarray] | np.ndarray, columns: int, zoom: int = 1
) -> Image.Image:
    """Lay pictures of one size out in rows."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + 2), columns * (width + 2), 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = divmod(i, columns)
        sheet[y * (height + 2) :, x * (width + 2) :][:height, :width] = picture
    made = Image.fromarray(sheet)
    return made.resize((made.width * zoom, made.height * zoom), Image.Resampling.NEAREST)
