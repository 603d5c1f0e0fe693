from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standard.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A company with one technician, one operator and one manager, and no machine yet."""
    world = World(tmp_path / "home")
    world.person("Tian", "technician")
    world.person("Olga", "ops")
    world.person("Mei", "manager")
    yield world
    world.close()
