"""What every test may ask for, and how Hypothesis behaves here and in CI."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Fixtures that many folders share, one module per subject.
pytest_plugins = [
    "tests.fixtures.ledger",
    "tests.fixtures.app",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.exporting",
    "tests.fixtures.exported",
    "tests.fixtures.source_server",
    "tests.fixtures.sourced",
    "tests.fixtures.standby",
    "tests.fixtures.guarded_postgres",
    "tests.fixtures.vault",
]

# No deadline anywhere: the machine is shared, and a slow example is not a wrong one.
settings.register_profile(
    "dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=100,
    # A failure prints the line that repeats it on another machine.
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# For a long look: HYPOTHESIS_PROFILE=thorough make test ARGS=tests/data
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=1_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real event sets with their reference answers, to be read in place."""
    if not SHARED_DATA.is_dir():
        # They are of another repository; what is made of them here is checked in any case.
        pytest.skip(f"NOT CHECKED for want of the real event sets: no folder {SHARED_DATA}")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders with the longest files first, so that no process is left alone with them."""
    long = ("journeys", "faults", "deploy")
    tests = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(tests).parts[0] not in long)
