"""The pocket model's world: 128 px scenes of somebody, somewhere, wearing something; and captions.

[one, two, three] [small, big] [pattern] [colour] noun [wearing something | with or and another
noun] [on a coloured background | at a place] [at night]. Nothing varies that is not said but
light, shade, place in the picture, and a place's variant.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from tools.pocket import dress, places, words
from tools.pocket.icons import ICON_PX, LOOKS
from tools.pocket.training import work_folder
from tools.pocket.words import BY_NOUN, BY_PLACE, COLOUR_NAMES, COLOURS, NOUNS, is_held_out

SIZE_PX = 128

# Black and white things have shade and shine, so their paint is not as far out as the grounds are.
PAINTS = COLOURS | {"black": (44, 44, 48), "white": (240, 240, 244), "brown": (140, 86, 48)}


@dataclass(frozen=True)
class Icons:
    """The drawn icons, by noun and look."""

    rgba: np.ndarray  # uint8, (nouns, looks, ICON_PX, ICON_PX, 4)
    masks: np.ndarray  # uint8, which parts take a colour
    own: np.ndarray  # names of their own colours, "" where none can be told


@functools.cache
def icons() -> Icons:
    file = work_folder() / "icons.npz"
    if not file.exists():
        raise FileNotFoundError(
            f"No drawn icons: {file} is missing. Draw them first: pip install -e '.[pocket]', then "
            "python -m tools.pocket.icons"
        )
    with np.load(file) as drawn:
        return Icons(drawn["rgba"], drawn["masks"], drawn["own"])


@dataclass(frozen=True)
class Scene:
    """What is to be seen, apart from its jitter; `caption()` says it, `paint()` draws it."""

    noun: str
    look: int = 0  # which of the three appearances
    count: int = 1
    size: str = ""  # "", "small" or "big"
    painted: str = ""  # colour of the object; "" is its own
    pattern: str = ""  # "", "striped" or "spotted"
    accessory: str = ""
    accessory_colour: str = ""
    second: str = ""  # another noun
    link: str = "and"  # "and": beside it, as large; "with": before it, smaller
    colour: str = "white"  # of the background, unless there is a place
    place: str = ""
    night: bool = False

    @property
    def is_plain(self) -> bool:
        """Say whether it is one thing and nothing more, wherever it is."""
        return not (self.accessory or self.second or self.size or self.count > 1 or self.pattern)


def shown_colour(scene: Scene) -> str:
    """Return the colour that the object shows, painted or its own; "" if none can be told."""
    if scene.painted:
        return scene.painted
    own = BY_NOUN[scene.noun].colour
    return own if own is not None else str(icons().own[NOUNS.index(scene.noun), scene.look])


def own_colours(noun: str) -> set[str]:
    """Return the colours that a thing has unpainted, in any look; those that can be told."""
    return {shown_colour(Scene(noun, look)) for look in range(len(LOOKS))} - {""}


WEIGHTS = np.array(
    [{"animal": 1.5, "person": 1.2, "toy": 1.3}.get(t.kind, 1.0) for t in words.THINGS]
)
WEIGHTS /= WEIGHTS.sum()
COMPANIONS = [t.noun for t in words.THINGS if t.kind in ("thing", "music", "food", "toy")]


def random_scene(
    rng: np.random.Generator,
    noun: str = "",
    variety: float = 1.0,
    looks=(0.62, 0.24, 0.14),
    **asked,
) -> Scene:
    """Draw a scene at random; `asked` are parts of it that are settled, held out or not.

    `variety` scales how often it is more than one thing as it is, `looks` are the shares of the
    three appearances.
    """
    n = noun or NOUNS[rng.choice(len(NOUNS), p=WEIGHTS)]
    thing = BY_NOUN[n]
    s: dict = {"noun": n, "look": int(rng.choice(len(LOOKS), p=looks))}
    free = not ({"accessory", "second", "size", "count"} & set(asked))
    roll = rng.random() / max(variety, 1e-9) if free else 1.0
    if roll < 0.24:
        while True:
            s["accessory"] = str(rng.choice(words.ACCESSORY_NAMES))
            if not is_held_out(n, "wearing", s["accessory"]):
                break
    elif roll < 0.40:
        s["link"], s["second"] = random_second(rng, n)
    elif roll < 0.48:
        s["size"] = str(rng.choice(["small", "big"]))
    elif roll < 0.58 and n not in words.NO_ARTICLE:
        s["count"] = int(rng.integers(2, 4))
    # Only what lives wears things as a rule; a hat on a car is rarer, but known.
    if s.get("accessory") and thing.kind not in words.LIVING and rng.random() < 0.7 and not noun:
        return random_scene(rng, noun, variety, looks, **asked)
    if n in dress.NO_HEAD:
        s.pop("accessory", None)
    if "place" not in asked and "colour" not in asked:
        if rng.random() < 0.5:
            while True:
                s["place"] = str(rng.choice(words.PLACE_NAMES))
                if not is_held_out(n, "at", s["place"]):
                    break
        else:
            while True:
                s["colour"] = str(rng.choice(COLOUR_NAMES))
                if not is_held_out(n, "on", s["colour"]):
                    break
    s |= asked
    if s.get("place") and "night" not in asked and s["place"] not in words.NO_NIGHT:
        s["night"] = bool(rng.random() < 0.14 * variety)
    if "painted" not in asked and thing.part != "-" and rng.random() < 0.36:
        ground = "" if s.get("place") else s.get("colour", "")
        options = [c for c in COLOUR_NAMES if c != ground and not is_held_out(n, "in", c)]
        s["painted"] = str(rng.choice(options))
        if rng.random() < 0.1 * variety and "pattern" not in asked:
            s["pattern"] = str(rng.choice(list(words.PATTERNS)))
    made = Scene(**s)
    if not made.place and "colour" not in asked and shown_colour(made) == made.colour:
        return random_scene(rng, noun, variety, looks, **asked)  # it would not be seen
    if s.get("accessory") and "accessory_colour" not in asked and rng.random() < 0.3:
        ground = "" if s.get("place") else s.get("colour", "")
        s["accessory_colour"] = str(rng.choice([c for c in COLOUR_NAMES if c != ground]))
    return Scene(**s)


def random_second(rng: np.random.Generator, noun: str) -> tuple[str, str]:
    """Draw at random how a second thing is linked to one ("and", "with"), and its noun."""
    link, second = str(rng.choice(["and", "with"])), noun
    while second == noun:
        choices = COMPANIONS if link == "with" and rng.random() < 0.7 else NOUNS
        second = str(rng.choice(choices))
    return link, second


def bare_ground(rng: np.random.Generator) -> Scene:
    """Draw a scene without a thing at random: cut-outs are set into what is drawn for these."""
    if rng.random() < 0.4:
        return Scene("", count=0, colour=str(rng.choice(COLOUR_NAMES)))
    place = str(rng.choice(words.PLACE_NAMES))
    night = place not in words.NO_NIGHT and rng.random() < 0.2
    return Scene("", count=0, place=place, night=bool(night))


def recoloured(rgba: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """Return the icon with its paintable parts in `colour`, its light and shade kept."""
    whole = Image.fromarray(rgba)
    luma, chosen = whole.convert("RGB").convert("L"), mask > 128
    if not chosen.any():
        return rgba
    usual = max(float(np.quantile(np.asarray(luma)[chosen][::7], 0.7)), 12.0)
    light = np.arange(256, dtype=np.float32)[:, None] / usual
    tint = np.array(PAINTS[colour], np.float32)
    shade = np.clip(light, 0.25, 1) * tint + np.clip(light - 1, 0, 0.8) * (255 - tint) * 0.6
    if colour == "black":
        shade += np.clip(light - 0.85, 0, 0.5) * 70
    table = shade.clip(0, 255).astype(np.uint8)
    painted = Image.merge("RGB", [luma.point(table[:, c].tolist()) for c in range(3)])
    painted.putalpha(whole.getchannel("A"))
    return np.asarray(Image.composite(painted, whole, Image.fromarray(mask)))


def patterned(
    rng: np.random.Generator, rgba: np.ndarray, mask: np.ndarray, pattern: str
) -> np.ndarray:
    """Return the icon with stripes or spots on its paintable parts."""
    y, x = np.mgrid[0:ICON_PX, 0:ICON_PX] / ICON_PX
    chosen = mask > 128
    if not chosen.any():
        return rgba
    angle = rng.choice([0, np.pi / 2, np.pi / 4])
    if pattern == "striped":
        wave = np.sin(2 * np.pi * 5.5 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
        second = np.clip(wave * 4 + 0.4, 0, 1)
    else:
        turn = rng.uniform(0, np.pi)
        u = x * np.cos(turn) + y * np.sin(turn)
        v = y * np.cos(turn) - x * np.sin(turn)
        dots = np.cos(2 * np.pi * 5 * u) + np.cos(2 * np.pi * 5 * v)
        second = np.clip((dots - 0.75) * 4, 0, 1)
    rgb = rgba[..., :3].astype(np.float32)
    is_dark = rgb[chosen].mean() < 110
    light = rgb.max(-1, keepdims=True) / max(float(rgb[chosen].max(-1).mean()), 30)
    other = np.clip(light, 0, 1.1) * (240 if is_dark else 60)
    if not is_dark and rgb[chosen].mean() < 190:
        other = np.clip(light, 0, 1.05) * 240
    share = (second * mask / 255)[..., None]
    out = rgba.copy()
    out[..., :3] = (rgb * (1 - share) + other * share).clip(0, 255).astype(np.uint8)
    return out


@functools.lru_cache(512)
def painted_accessory(name: str, colour: str) -> np.ndarray:
    rgba = dress.worn()[name]
    return recoloured(rgba, dress.paintable_part(name), colour) if colour else rgba


def actor(rng: np.random.Generator, scene: Scene, noun: str, is_first: bool) -> Image.Image:
    """Return a thing as it is painted and dressed, cut to its outline."""
    row = NOUNS.index(noun)
    look = scene.look
    rgba, mask = icons().rgba[row, look], icons().masks[row, look]
    if is_first and scene.painted:
        rgba = recoloured(rgba, mask, scene.painted)
    if is_first and scene.pattern:
        rgba = patterned(rng, rgba, mask, scene.pattern)
    if is_first and scene.accessory:
        item = painted_accessory(scene.accessory, scene.accessory_colour)
        rgba = dress.dressed(
            rgba, noun, look, scene.accessory, item, rng.normal(0, 1, 4).clip(-1.5, 1.5)
        )
    made = Image.fromarray(rgba)
    return made.crop(made.getchannel("A").getbbox())


@functools.cache
def _ellipse() -> Image.Image:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    return Image.fromarray((np.clip(1.15 - np.hypot(x, y), 0, 1) ** 0.8 * 150).astype(np.uint8))


@functools.cache
def _rain() -> list[Image.Image]:
    rng = np.random.default_rng(5)
    return [places.streaks(rng, SIZE_PX, 70) for _ in range(12)]


def background(rng: np.random.Generator, scene: Scene) -> Image.Image:
    """Return the ground that things are set on."""
    if scene.place:
        bank = places.bank()[scene.place, scene.night]
        variant = bank[rng.integers(len(bank))]
        room = places.BANK_PX - SIZE_PX
        x, y = rng.integers(0, room + 1), rng.integers(4, room - 3)
        crop = variant[y : y + SIZE_PX, x : x + SIZE_PX]
        return Image.fromarray(np.ascontiguousarray(crop[:, :: rng.choice([-1, 1])]))
    tone = np.array(COLOURS[scene.colour], np.float32) + rng.normal(0, 4, 3)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.choice([0, 16])
    if not slope:
        shade = tuple(tone.clip(0, 255).round().astype(int).tolist())
        return Image.new("RGB", (SIZE_PX, SIZE_PX), shade)
    across = np.linspace(-0.5, 0.5, SIZE_PX, dtype=np.float32) * slope
    ramp = np.float32(np.cos(angle)) * across[None] + np.float32(np.sin(angle)) * across[:, None]
    pixels = tone.astype(np.float32) + ramp[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


# How large, in pixels, things are: on a plain ground, at a place.
SINGLE_PX, SMALL_PX, BIG_PX = (96, 82), (46, 42), (120, 108)
SEVERAL_PX = {2: (60, 54), 3: (56, 48)}


def _spots(scene: Scene, stands: float) -> list[tuple]:
    """Return for each thing (is it the first noun, size, x, y); y is its foot where it stands."""
    if not scene.noun:
        return []
    k = int(bool(scene.place))
    middle, foot = 64, stands * SIZE_PX
    if scene.second:
        if scene.link == "and":
            px = (62, 54)[k]
            return [(True, px, 34, foot or middle), (False, px, 94, foot or middle)]
        back, front = (84, 74)[k], (50, 44)[k]
        low = foot + 5 if foot else middle + 24
        return [(True, back, 52, foot or middle - 4), (False, front, 97, low)]
    if scene.count == 2:
        px = SEVERAL_PX[2][k]
        return [(True, px, x, foot or middle) for x in (34, 94)]
    if scene.count == 3:
        px = SEVERAL_PX[3][k]
        if foot:
            return [(True, px, 64, foot - 24), (True, px, 32, foot + 3), (True, px, 96, foot + 3)]
        return [(True, px, 64, 34), (True, px, 33, 92), (True, px, 95, 92)]
    px = {"small": SMALL_PX, "big": BIG_PX, "": SINGLE_PX}[scene.size][k]
    if scene.accessory and not scene.size:
        px = (106, 94)[k]
    return [(True, px, 64, foot or middle)]


def paint(rng: np.random.Generator, scene: Scene, loose: bool = False) -> np.ndarray:
    """Draw the scene: uint8 RGB, shape (128, 128, 3).

    `loose` places, sizes and turns things more freely than the scenes that the U-Net learns, so
    that whoever judges pictures does not depend on where exactly things are.
    """
    canvas = background(rng, scene)
    place = BY_PLACE[scene.place] if scene.place else None
    stands = place.ground if place else 0.0
    is_shaded = scene.look == 0 or rng.random() < 0.4
    made = {True: actor(rng, scene, scene.noun, True)} if scene.noun else {}
    if scene.second:
        made[False] = actor(rng, scene, scene.second, False)
    lean, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4) * is_shaded
    has_shadow = stands > 0 or rng.random() < 0.5
    for is_first, px, x, y in _spots(scene, stands):
        icon = made[is_first]
        if loose:
            if rng.random() < 0.5:
                icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            icon = icon.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, expand=True)
            px, x, y = px * rng.uniform(0.86, 1.1), x + rng.uniform(-5, 5), y + rng.uniform(-5, 5)
        px += rng.uniform(-2.5, 2.5) if px < 112 else 0
        x, y = x + rng.uniform(-2.5, 2.5), y + rng.uniform(-2, 2)
        scale = px / max(icon.size)
        wide, high = max(4, round(icon.width * scale)), max(4, round(icon.height * scale))
        icon = icon.resize((wide, high), Image.Resampling.BICUBIC, reducing_gap=2.0)
        pixels = np.asarray(icon).astype(np.float32)
        if strength:
            u = np.linspace(-0.5, 0.5, wide, dtype=np.float32)[None] * np.float32(np.cos(lean))
            v = np.linspace(-0.5, 0.5, high, dtype=np.float32)[:, None] * np.float32(
                abs(np.sin(lean))
            )
            pixels[..., :3] *= (1 + np.float32(strength) * (u - v - 0.1))[..., None]
        if scene.night:
            pixels[..., :3] *= np.array((0.62, 0.66, 0.86), np.float32)
        elif scene.place == "under water":
            pixels[..., :3] = pixels[..., :3] * 0.84 + np.array((10, 110, 160), np.float32) * 0.16
        if scene.place == "sea":  # it swims
            v = np.linspace(0, 1, high, dtype=np.float32)[:, None]
            pixels[..., 3] *= np.clip((0.98 - v) / 0.16, 0.12, 1)
        icon = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        left = round(x - wide / 2)
        upper = round(y - high) if stands else round(y - high / 2)
        upper = max(upper, 2 - round(0.04 * high))
        if has_shadow and stands and scene.place != "sea":
            flat = _ellipse().resize((round(wide * 1.04) + 2, max(4, round(wide * 0.2))))
            at = (left - round(wide * 0.02) - 1, upper + high - flat.height // 2 - 1)
            canvas.paste((18, 18, 26), at, flat)
        elif has_shadow and not stands and scene.place == "":
            soft = icon.getchannel("A").reduce(3).filter(ImageFilter.GaussianBlur(1.2))
            soft = soft.resize((wide, high), Image.Resampling.BILINEAR).point(lambda a: a * 0.34)
            canvas.paste((10, 10, 20), (left + 3, upper + 4), soft)
        canvas.paste(icon, (left, upper), icon)
    if scene.place == "rain":
        canvas.paste((206, 218, 230), (0, 0), _rain()[rng.integers(12)])
    if not is_shaded:
        return np.asarray(canvas)
    if rng.random() < 0.25:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    pixels = np.asarray(canvas).astype(np.float32)
    if rng.random() < 0.4:  # light of another colour, another exposure
        pixels *= (rng.normal(1, 0.025, 3) * rng.uniform(0.92, 1.06)).astype(np.float32)
    if rng.random() < 0.25:
        pixels += rng.uniform(1, 4) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """Say the scene in one of the ways that people do."""
    if not scene.noun:
        return "nothing" + _where(rng, scene)
    thing = BY_NOUN[scene.noun]

    def name(noun: str) -> str:
        also = BY_NOUN[noun].also
        return str(rng.choice(list(also))) if also and rng.random() < 0.25 else noun

    noun = name(scene.noun)
    if rng.random() < 0.02 and not scene.second:
        noun = str(rng.choice(words.KINDS_OF[scene.noun] or [noun]))
    before = []
    if scene.size:
        before.append(str(rng.choice(words.SIZES[scene.size])))
    if scene.pattern:
        before.append(scene.pattern)
    shown = shown_colour(scene)
    # The colour shown is said. Where things come in any colour, one that they were given is left
    # out now and then, and one that they have by themselves is said more often than elsewhere: with
    # 0.15 and 0.45 seven of eight scenes of "a car" were red, and so was all that was drawn of it.
    is_free = thing.kind in ("vehicle", "clothes", "thing", "toy", "building", "music")
    left_out, told = (0.3, 0.7) if is_free else (0.0, 0.45)
    if rng.random() < (1 - left_out if scene.painted else told if shown else 0):
        same = [k for k, v in words.SAME_COLOUR.items() if v == shown]
        before.append(str(rng.choice([shown] * 4 + same)))
    if scene.count > 1:
        said = " ".join([words.COUNTS[scene.count - 1], *before, words.plural(noun)])
    else:
        said = " ".join([*before, noun])
        roll = rng.random()
        if roll < 0.9 or scene.second:
            said = words.with_article(said)
        elif roll < 0.95:
            said = ("one " if noun not in words.NO_ARTICLE else "the ") + said
        else:
            said = "the " + said
    if scene.accessory:
        worn = words.BY_ACCESSORY[scene.accessory]
        item = worn.name
        if worn.also and rng.random() < 0.2:
            item = str(rng.choice(list(worn.also)))
        if scene.accessory_colour:
            item = f"{scene.accessory_colour} {item}"
        said += " " + str(rng.choice(list(worn.ways))).format(words.with_article(item))
    if scene.second:
        said += f" {scene.link} {words.with_article(name(scene.second))}"
    if scene.place or rng.random() < 0.75:
        said += _where(rng, scene)
    if rng.random() < 0.2:
        kind = "shaded" if scene.look == 0 else "flat"
        said = str(rng.choice(words.TEMPLATES[kind])).format(said)
    return said


def _where(rng: np.random.Generator, scene: Scene) -> str:
    """Say where it is."""
    if scene.place:
        way = str(rng.choice(list(BY_PLACE[scene.place].ways)))
        return f" {way} at night" if scene.night else f" {way}"
    colour = scene.colour
    if rng.random() < 0.3:
        same = [k for k, v in words.SAME_COLOUR.items() if v == colour]
        colour = str(rng.choice(same or [colour]))
    return f" {words.on_ground(colour)}"


def contact_sheet(pictures: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Lay pictures out in rows, edge to edge; what is left of the last one is white."""
    sheet = np.full((-(-len(pictures) // columns), columns, SIZE_PX, SIZE_PX, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        sheet[divmod(i, columns)] = picture
    rows = sheet.swapaxes(1, 2).reshape(-1, columns * SIZE_PX, 3)
    return Image.fromarray(rows)
