"""Without the packages a command says what to do, and never shows a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.bootstrap import NEEDED, missing
from core.config import ROOT
from patience import patience


def test_the_packages_that_are_there_are_not_missed() -> None:
    assert missing() == []
    assert missing(("json", "no_such_package_at_all")) == ["no_such_package_at_all"]
    assert "simplejson" in NEEDED


@pytest.mark.parametrize("mark", [{}, {"BOTYARD_IN_VENV": "1"}])
def test_a_missing_package_ends_with_code_2_and_the_way_to_mend_it(mark: dict[str, str]) -> None:
    code = "from core.bootstrap import ensure_packages; ensure_packages(('no_such_package_at_all',))"
    environment = {**{k: v for k, v in os.environ.items() if k != "BOTYARD_IN_VENV"}, **mark}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=patience(30))
    assert done.returncode == 2
    assert "no_such_package_at_all" in done.stderr
    assert "start.sh" in done.stderr
    assert "Traceback" not in done.stderr
