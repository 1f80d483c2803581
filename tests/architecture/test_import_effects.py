"""Importing a module of ours does nothing but define names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.rules import ROOMS, ROOT, modules_in

PROBE = Path(__file__).with_name("import_probe.py")


def effects_of_importing(names: list[str], *, below: Path, cwd: Path) -> list[list[str]]:
    """`[module, effect]` for each effect seen; runs in `cwd`, so that no relative path helps."""
    result = subprocess.run(
        [sys.executable, "-B", str(PROBE), *names],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(below)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    effects: list[list[str]] = json.loads(result.stdout)
    return effects


def test_importing_any_module_has_no_effect(tmp_path: Path) -> None:
    names = [module.name for module in modules_in(*ROOMS) if not module.name.endswith(".__main__")]

    assert effects_of_importing(names, below=ROOT, cwd=tmp_path) == []
    # What a driver's own C code writes raises no audit event, but it leaves a file.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "open('note.txt', 'w').close()",
        "import os\nos.open('note.txt', os.O_CREAT)",
        "import pathlib\npathlib.Path('folder').mkdir()",
        "import socket\nsocket.socket(socket.AF_UNIX).connect_ex('/nowhere')",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])",
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    ],
)
def test_an_effect_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "guilty.py").write_text(text, encoding="utf-8")

    effects = effects_of_importing(["guilty"], below=tmp_path, cwd=tmp_path)

    assert effects
    assert {module for module, _ in effects} == {"guilty"}
