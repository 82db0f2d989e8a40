"""A notebook for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.decorators.notebook import Notebook


@pytest.fixture
def notebook(sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook; at its end no connection may be checked out."""
    notebook = Notebook(sqlite_file_url)
    yield notebook
    notebook.close()


@pytest.fixture
def other_notebook(tmp_path: Path) -> Iterator[Notebook]:
    """Give another notebook, with a database, a manager and an app of its own."""
    notebook = Notebook(f"sqlite:///{tmp_path / 'other.sqlite'}")
    yield notebook
    notebook.close()
