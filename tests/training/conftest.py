"""What the tests of training share."""

import pytest
from tiny_model import make_pipeline

from s2i_lib.models.loading import Model
from s2i_lib.models.registry import REGISTRY


@pytest.fixture
def model():
    """The tiny model, to count and to try steps with."""
    return Model(REGISTRY["pocket"], make_pipeline(), "made here")
