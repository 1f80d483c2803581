import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from telemetry.logs import configure_logs
from tests.jobs.workbench import Bench


@pytest.fixture
def sink() -> Iterator[StringIO]:
    """The log of the process, from debug up; the other tests get theirs back."""
    stream = StringIO()
    root = logging.getLogger()
    level, kind = root.level, logging.getLoggerClass()
    configure_logs(level="debug", json=True, stream=stream)
    yield stream
    logging.captureWarnings(capture=False)
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.setLevel(level)
    logging.setLoggerClass(kind)
    structlog.reset_defaults()


@pytest.fixture
def bench() -> Bench:
    return Bench()
