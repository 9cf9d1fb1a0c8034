"""A platform in production: nobody is let in for being near."""

from __future__ import annotations

import pytest

from tests.api.conftest import MakePlatform
from tests.api.fakes import FakeGenerator
from tests.api.platform import Platform


@pytest.fixture
async def platform(make_platform: MakePlatform, generator: FakeGenerator) -> Platform:
    return await make_platform(generator, environment="production")
