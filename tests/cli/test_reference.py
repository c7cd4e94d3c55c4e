"""docs/cli.md says what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanefit.cli.reference import with_reference
from lanefit.common.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_command_reference_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_reference(text) == text, "run: python -m lanefit.cli.reference docs/cli.md"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks the marks"):
        with_reference("# nothing")
