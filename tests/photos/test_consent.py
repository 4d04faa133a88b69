"""Consent: the day as people write it."""

import pytest

from s2i_lib.errors import InputError
from s2i_lib.photos.consent import Consent


@pytest.mark.parametrize(
    "on",
    [
        "2026-8-19",
        "2026-08-19",
        " 19.8.2026 ",
        "19. 08. 2026",
        "2026/8/19",
        "2026.08.19",
        "2026-08-19T12:00:05Z",
        "20260819",
        "19 Aug 2026",
        "August 19, 2026",
    ],
)
def test_day_is_read_as_people_write_it(on):
    assert Consent("Ada Lovelace", on).on == "2026-08-19"


@pytest.mark.parametrize("on", ["2026-13-1", "2026-8", "8-19-2026", "2026-2-30"])
def test_day_that_is_none_is_refused_with_the_form(on):
    with pytest.raises(InputError, match="for instance 2026-08-19"):
        Consent("Ada Lovelace", on)
