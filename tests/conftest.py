"""What the tests share: --full, which also lengthens the tests that have a short form."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run at the full lengths and counts")


@pytest.fixture(scope="session")
def full(request) -> bool:
    """Whether this is `make full`: tests with a short form run at their full length then."""
    return request.config.getoption("--full")
