"""What the tests of the teaching page share: mined once."""

import pytest
from teach_world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("teaching"))
