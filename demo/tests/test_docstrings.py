"""Examples in docstrings are run."""

import doctest
from types import ModuleType

import pytest

from nozle_demo import exact, replay


@pytest.mark.parametrize("module", [exact, replay])
def test_examples_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
