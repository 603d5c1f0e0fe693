"""What the tests of the whole program share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import chromium
from tests.patience import PATIENCE_S

expect.set_options(timeout=1000 * PATIENCE_S)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all: whoever visits gets a context of their own."""
    with chromium() as browser:
        yield browser
