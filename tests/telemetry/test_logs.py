import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import UTC, datetime
from io import StringIO
from pathlib import PurePosixPath
from uuid import UUID

import pytest
import structlog

from telemetry.logs import (
    bind_correlation_id,
    configure_logs,
    current_correlation_id,
    new_correlation_id,
)

log = structlog.get_logger()

ID = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Logging is set up for a whole process; the other tests get theirs back."""
    root = logging.getLogger()
    level, kind = root.level, logging.getLoggerClass()
    logging.captureWarnings(capture=False)
    yield
    logging.captureWarnings(capture=False)
    for handler in list(root.handlers):
        # Exactly ours: the handlers of pytest are of classes derived from this one.
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    root.setLevel(level)
    logging.setLoggerClass(kind)
    structlog.reset_defaults()


@pytest.fixture
def sink() -> StringIO:
    stream = StringIO()
    configure_logs(level="info", json=True, stream=stream)
    return stream


def lines(sink: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def only_line(sink: StringIO) -> dict[str, object]:
    (line,) = lines(sink)
    return line


def test_a_line_holds_time_level_event_logger_id_and_what_was_said(sink: StringIO) -> None:
    before = datetime.now(UTC)
    log.info("ingest.commit.done", rows=3)
    line = only_line(sink)
    assert list(line) == ["timestamp", "level", "event", "logger", "correlation_id", "rows"]
    assert (line["level"], line["event"], line["rows"]) == ("info", "ingest.commit.done", 3)
    assert line["logger"] == __name__
    at = datetime.fromisoformat(str(line["timestamp"]))
    assert abs((at - before).total_seconds()) < 60


def test_every_line_has_a_correlation_id_whoever_wrote_it() -> None:
    # Set up here and not by a fixture: pytest takes the handling of warnings back in between.
    sink = StringIO()
    configure_logs(level="info", json=True, stream=sink)
    log.warning("ours")
    logging.getLogger("uvicorn.error").info("theirs %d", 1)
    logging.getLogger("sqlalchemy.engine").warning("theirs 2")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("theirs 3", stacklevel=1)
    thread = threading.Thread(target=lambda: log.info("in a thread"))
    thread.start()
    thread.join()
    Context().run(lambda: log.info("in an empty context"))
    written = lines(sink)
    assert len(written) == 6
    ids = {line["correlation_id"] for line in written}
    assert len(ids) == 1
    assert all(ID.fullmatch(str(one)) for one in ids)


def test_a_bound_correlation_id_is_on_ours_and_on_theirs_until_the_block_ends(
    sink: StringIO,
) -> None:
    with bind_correlation_id("a" * 16) as bound:
        assert bound == current_correlation_id() == "a" * 16
        log.info("outer")
        with bind_correlation_id("b" * 16):
            logging.getLogger("uvicorn.error").info("inner")
        log.info("outer again")
    assert current_correlation_id() is None
    log.info("outside")
    *inside, outside = [line["correlation_id"] for line in lines(sink)]
    assert inside == ["a" * 16, "b" * 16, "a" * 16]
    assert outside not in inside
    assert ID.fullmatch(str(outside))


def test_the_id_before_comes_back_after_an_error() -> None:
    with bind_correlation_id("a" * 16):
        with pytest.raises(ZeroDivisionError), bind_correlation_id("b" * 16):
            _ = 1 / 0
        assert current_correlation_id() == "a" * 16


def test_correlation_ids_are_16_hexadecimal_digits_and_never_the_same() -> None:
    ids = {new_correlation_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(ID.fullmatch(one) for one in ids)


def test_an_exception_comes_with_its_traceback_in_one_line(sink: StringIO) -> None:
    def fail(tell: Callable[[str], None]) -> None:
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            tell("it.failed")

    fail(log.exception)
    fail(logging.getLogger("uvicorn.error").exception)
    ours, theirs = lines(sink)
    for line in (ours, theirs):
        assert line["level"] == "error"
        assert "ZeroDivisionError: division by zero" in str(line["exception"])
        assert "exc_info" not in line


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "apiKey", "X-API-Key", "password", "db_password", "Authorization", "token"],
)
def test_what_is_named_like_a_secret_is_masked(sink: StringIO, name: str) -> None:
    log.info(
        "settings", **{name: "hunter2"}, nested={name: ["hunter2"]}, listed=[{name: b"hunter2"}]
    )
    assert "hunter2" not in sink.getvalue()
    line = only_line(sink)
    assert line[name] == "***"
    assert line["nested"] == {name: "***"}
    assert line["listed"] == [{name: "***"}]


def test_names_that_only_resemble_a_secret_are_shown(sink: StringIO) -> None:
    log.info("shown", key_id=7, monkey="see", tokenizer="a", keyboard="qwerty", token=None)
    line = only_line(sink)
    assert (line["key_id"], line["monkey"], line["tokenizer"]) == (7, "see", "a")
    assert line["keyboard"] == "qwerty"
    assert line["token"] is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hunter2@db:5432/x", "postgresql://app:***@db:5432/x"),
        ("redis://:hunter2@cache/0 is down", "redis://:***@cache/0 is down"),
        ("postgresql://app:hunt@hunter2@db/x", "postgresql://app:***@db/x"),
        ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
        ("/collect?api_key=hunter2&site=a", "/collect?api_key=***&site=a"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        (f"ff_admin_{'0af1' * 16} was sent", "ff_admin_*** was sent"),
        (f"token hvs.{'Ab-_' * 6} has ended", "token hvs.*** has ended"),
        ("http://localhost:8000/users/@me", "http://localhost:8000/users/@me"),
    ],
)
def test_secrets_inside_of_texts_are_masked_wherever_the_text_stands(
    sink: StringIO, text: str, shown: str
) -> None:
    log.info("said", where=text, error=ValueError(text), raw=text.encode())
    logging.getLogger("asyncpg").error("cannot reach %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("failed")
    ours, theirs, failed = lines(sink)
    assert (ours["where"], ours["error"], ours["raw"]) == (shown, f"ValueError: {shown}", shown)
    assert theirs["event"] == f"cannot reach {shown}"
    assert f"RuntimeError: {shown}" in str(failed["exception"])
    assert "hunter2" not in sink.getvalue()


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("not even a repr")


def endless() -> list[object]:
    circle: list[object] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        b"\xff\x00binary",
        "lone \ud800 surrogate",
        {"\udc80": "\udc80"},
        {1: {2: {3: {4: {5: {6: {}}}}}}},
        TypeError("no such thing"),
        float("nan"),
        10**5_000,
        {b"bytes": {1, 2}},
        Hostile(),
        [Hostile()],
        endless(),
        "x" * 1_000_000,
        list(range(1_000_000)),
        object,
        memoryview(b"view"),
        ExceptionGroup("many", [ValueError("\ud800")]),
        "\x1b[2J\r\n\x00",
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_give_one_line_of_bounded_size_and_no_error(
    value: object, *, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = StringIO()
    configure_logs(level="info", json=as_json, stream=sink)
    log.info("odd", value=value)
    logging.getLogger("uvicorn").info("odd %s", "\ud800")
    text = sink.getvalue()
    assert len(text.splitlines()) == 2
    assert len(text) < 20_000
    assert text.encode("utf-8").count(b"odd") == 2
    assert capsys.readouterr().err == ""
    if as_json:
        assert lines(sink)[0]["event"] == "odd"


def test_usual_values_keep_their_meaning(sink: StringIO) -> None:
    log.info(
        "usual",
        at=datetime(2024, 2, 29, 12, tzinfo=UTC),
        id=UUID(int=1),
        path=PurePosixPath("/data/file"),
        raw="grün".encode(),
        ok=True,
        many=(1, 2.5, None),
    )
    line = only_line(sink)
    assert line["at"] == "2024-02-29T12:00:00+00:00"
    assert line["id"] == "00000000-0000-0000-0000-000000000001"
    assert (line["path"], line["raw"]) == ("/data/file", "grün")
    assert line["ok"] is True
    assert line["many"] == [1, 2.5, None]


def test_a_long_text_keeps_both_its_ends(sink: StringIO) -> None:
    log.info("long", text="begin" + "x" * 100_000 + "end")
    text = str(only_line(sink)["text"])
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(text) < 10_000


def test_a_library_that_formats_wrongly_still_gets_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Set up here and not by a fixture: the handlers of pytest would raise.
    sink = StringIO()
    configure_logs(level="info", json=True, stream=sink)
    logging.getLogger("uvicorn").info("%d rows", "many")
    line = only_line(sink)
    assert line["event"] == "log.unprintable %d rows: TypeError"
    assert ID.fullmatch(str(line["correlation_id"]))
    assert capsys.readouterr().err == ""


def test_what_a_caller_says_never_replaces_time_level_or_logger(sink: StringIO) -> None:
    log.info("said", level="fake", logger="fake", timestamp="fake")
    line = only_line(sink)
    assert "fake" not in line.values()
    assert line["level"] == "info"


def test_lines_below_the_level_are_not_written() -> None:
    sink = StringIO()
    configure_logs(level="WARNING", json=True, stream=sink)
    log.info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    log.warning("loud")
    logging.getLogger("uvicorn.error").warning("loud")
    assert [line["event"] for line in lines(sink)] == ["loud", "loud"]


@pytest.mark.parametrize(("level", "heard"), [("info", 0), ("debug", 1)])
def test_talkative_libraries_are_heard_at_debug_only(level: str, heard: int) -> None:
    sink = StringIO()
    configure_logs(level=level, json=True, stream=sink)
    logging.getLogger("apscheduler.executors.default").info("Running job")
    assert len(lines(sink)) == heard


def test_libraries_with_handlers_of_their_own_do_not_write_twice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    access = logging.getLogger("uvicorn.access")
    access.addHandler(logging.StreamHandler(sys.stderr))
    access.propagate = False
    sink = StringIO()
    configure_logs(level="info", json=True, stream=sink)
    access.info("GET /")
    assert only_line(sink)["event"] == "GET /"
    assert capsys.readouterr().err == ""


def test_a_second_configuration_replaces_the_first(sink: StringIO) -> None:
    log.info("first")
    second = StringIO()
    configure_logs(level="info", json=True, stream=second)
    log.info("second")
    logging.getLogger("uvicorn.error").info("second")
    assert [line["event"] for line in lines(sink)] == ["first"]
    assert [line["event"] for line in lines(second)] == ["second", "second"]


def test_logs_go_to_standard_error_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(level="info", json=True)
    log.info("here")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "here"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_coloured"), [(StringIO(), False), (Terminal(), True)])
def test_lines_for_people_are_coloured_on_a_terminal_only(
    stream: StringIO, *, is_coloured: bool
) -> None:
    configure_logs(level="info", json=False, stream=stream)
    log.info("ingest.commit.done", rows=3, password="hunter2")
    text = stream.getvalue()
    assert "ingest.commit.done" in text
    assert "correlation_id" in text
    assert "hunter2" not in text
    assert ("\x1b[" in text) is is_coloured


def test_lines_for_people_show_a_traceback_without_the_values_around_it() -> None:
    sink = StringIO()
    configure_logs(level="info", json=False, stream=sink)
    local = "hidden value"
    try:
        raise RuntimeError(local.removesuffix(" value"))
    except RuntimeError:
        log.exception("failed")
    assert "RuntimeError: hidden\n" in sink.getvalue()
    assert local not in sink.getvalue()


def test_a_value_cannot_imitate_another_line_or_command_the_terminal() -> None:
    sink = StringIO()
    configure_logs(level="info", json=False, stream=sink)
    forged = "x\n2024-01-01 [info] forged\x1b[2J"
    log.info("said", text=forged)
    log.info(forged)
    logging.getLogger("uvicorn").info("bad path %s", forged)
    assert len(sink.getvalue().splitlines()) == 3
    log.error("failed", exc_info=ValueError(forged))
    assert "\x1b" not in sink.getvalue()


def test_what_is_nested_too_deep_is_left_out(sink: StringIO) -> None:
    log.info("deep", value={"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, circle=endless())
    line = only_line(sink)
    assert line["value"] == {"a": {"b": {"c": {"d": {"e": "..."}}}}}
    assert line["circle"] == [[[[["..."]]]]]


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="log level 'loud' is unknown: use one of DEBUG, INFO"):
        configure_logs(level="loud", json=True)
