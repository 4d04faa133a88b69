"""What is kept where: one pure decision, held to what it promises for every size and room."""

import dataclasses
import shutil

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s2i_lib.storage.layout import Drive
from s2i_lib.training import resources
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.storage_plan import (
    GIB,
    LARGE_STATE_GIB,
    SAVE_EVERY,
    USABLE,
    Room,
    Sizes,
    levels,
    room_for,
)
from s2i_lib.training.storage_plan import choose_storage as choose

gib = st.floats(0.001, 50.0)
free = st.floats(0.0, 100.0)
steps = st.integers(1, 5000)


@st.composite
def sizes(draw):
    weights = draw(gib)
    state = weights * draw(st.floats(3.0, 8.0))  # in fp16; a state has 6 to 16 bytes a parameter
    return Sizes(state, weights, draw(st.sampled_from([0.0, weights])))


rooms = st.builds(Room, drive=free, local=free, shared=st.none() | st.floats(0.0, 10.0))
ENDLESS = 1e6
SD = resources.estimate_files(865_910_724, FinetuneOptions(with_8bit_adam=True))
GB = 1e9 / 2**30


@given(sizes(), rooms, steps)
def test_what_is_chosen_fits_unless_nothing_does(sizes, room, steps):
    chosen = choose(sizes, room, steps)
    others = list(levels(sizes, steps, 0, room.drive))
    assert chosen.fits(room) or not any(other.fits(room) for other in others)
    if chosen.fits(room):
        assert chosen.drive_gib <= USABLE * room.drive
        assert chosen == next(other for other in others if other.fits(room)), "the safest"


@given(sizes(), free, free, steps)
def test_more_room_never_makes_a_run_less_safe(sizes, less, more, steps):
    assume(less <= more)
    little, much = (choose(sizes, Room(drive, ENDLESS), steps) for drive in (less, more))
    rank = [(one.states, one.slots_so_far, one.with_best, one.fits_drive(Room(drive, ENDLESS)))
            for one, drive in ((little, less), (much, more))]  # fmt: skip
    order = [(0, 0, False), (0, 0, True), (0, 2, False), (0, 2, True), (1, 1, False), (1, 1, True),
             (2, 0, False), (2, 0, True)]  # fmt: skip
    assert order.index(rank[0][:3]) <= order.index(rank[1][:3]) and rank[0][3] <= rank[1][3]


@given(sizes(), rooms, steps)
def test_it_is_refused_only_where_the_finished_weights_alone_do_not_fit(sizes, room, steps):
    room = dataclasses.replace(room, local=ENDLESS, shared=None)
    assert choose(sizes, room, steps).fits(room) == (sizes.weights <= USABLE * room.drive)


@given(sizes(), rooms, steps, st.integers(1, 5000))
def test_what_lies_there_never_exceeds_what_was_counted(sizes, room, steps, every):
    """Played through: each save, its predecessors, the best step's weights, and the end."""
    for one in levels(sizes, steps, every, room.drive):
        best = sizes.best if one.with_best else 0.0
        there: list[float] = []
        for step in range(one.save_every, steps + 1, one.save_every):
            if step == steps and not one.keeps_state:
                break
            kinds = [sizes.weights] * bool(one.slots_so_far) + [sizes.state] * bool(one.states)
            for kind in kinds:
                there = [*there[-1:], kind]
                assert sum(there) + 2 * best <= one.drive_gib + 1e-9
        there = there[-1:]
        assert sum(there) + best + sizes.weights <= one.drive_gib + 1e-9
        assert 2 * sizes.state <= one.local_gib


@given(sizes(), rooms, st.integers(1, 5000), st.integers(1, 5000))
def test_what_the_user_chose_is_kept_and_large_states_are_saved_four_times_at_most(
    sizes, room, steps, every
):
    assert choose(sizes, room, steps, every).save_every == every
    chosen = choose(sizes, room, steps).save_every
    if sizes.state < LARGE_STATE_GIB:
        assert chosen == SAVE_EVERY
    else:
        assert chosen >= SAVE_EVERY and chosen * 4 >= steps


# Of a Drive of 15 GB, what is free; the state of Stable Diffusion 2.1 with 8-bit AdamW takes 4.84
# GiB, its weights 1.61.
@pytest.mark.parametrize(
    ("free_gb", "states", "so_far"),
    [(14.5, 2, 0), (12.0, 2, 0), (10.0, 1, 1), (8.0, 1, 1), (7.0, 0, 2), (4.0, 0, 2), (3.0, 0, 0)],
)
def test_stable_diffusion_on_a_free_google_drive(free_gb, states, so_far):
    chosen = choose(SD, Room(free_gb * GB, 70.0), 800)
    assert (chosen.states, chosen.slots_so_far) == (states, so_far)
    assert chosen.save_every == 200 and not chosen.keeps_state
    assert chosen.is_safe == (free_gb > 3)


def test_lora_fits_wherever_there_is_room_for_a_photo():
    lora = resources.estimate_files(1_659_904, FinetuneOptions(method="lora"))
    chosen = choose(lora, Room(0.1, 10.0), 800)
    assert chosen.states == 2 and chosen.fits(Room(0.1, 10.0))


def test_a_small_state_stays_and_a_large_one_does_not():
    small, large = Sizes(0.15, 0.05), Sizes(4.84, 1.61)
    assert choose(small, Room(12.0, 70.0), 300).keeps_state
    assert not choose(large, Room(12.0, 70.0), 800).keeps_state


def test_what_lies_on_the_drive_takes_of_this_disk_where_both_are_one():
    assert Room(drive=100, local=100).local_beside(40) == 100, "two disks"
    assert Room(drive=100, local=100, shared=0).local_beside(40) == 60
    own = Room(drive=130, local=100, shared=30)
    assert own.local_beside(40) == 90, "30 of the 40 are there already"
    assert own.local_beside(20) == 100


def test_room_is_measured_and_what_the_run_has_there_counts_as_free(drive, local_disk):
    folder = drive.runs / "rex" / "1"
    before = room_for(drive, folder)
    free = shutil.disk_usage(local_disk.parent).free / GIB
    assert (before.drive, before.local) == (pytest.approx(free, abs=5),) * 2
    assert before.shared == 0, "one disk"
    folder.mkdir(parents=True)
    with (folder / "state").open("wb") as file:
        file.truncate(30 * GIB)  # takes no space: a hole
    after = room_for(drive, folder)
    assert after.shared == 30 and after.drive - before.drive == pytest.approx(30, abs=5)


def test_a_mounted_drive_is_another_disk(faulty_drive, local_disk):
    drive = Drive(faulty_drive.path)
    assert room_for(drive, drive.runs / "rex" / "1").shared is None
