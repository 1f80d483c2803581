"""Imports the modules named on the command line and prints what importing them did, as JSON.

Runs in an interpreter of its own, with an audit hook that notes every event that is an effect
outside the process, or a thread. Nothing is prevented: the list is the result.
"""

import importlib
import json
import os
import sys
import threading

EFFECTS = (
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.link",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.system",
    "os.truncate",
    "shutil.rmtree",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "sqlite3.connect",
    "subprocess.Popen",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def is_a_write(mode: object, flags: object) -> bool:
    """Whether an `open` event with this mode and these flags may change a file."""
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & WRITING)


def main(names: list[str]) -> None:
    """Prints `[[module, effect], ...]`; the module is the one whose import was under way."""
    noted: list[tuple[str, str]] = []
    current = ["(before)"]

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.bind" and arguments[1] == ("::1", 0):
            return  # urllib3, under hvac, looks whether there is IPv6, and lets go at once
        if event in EFFECTS:
            noted.append((current[0], f"{event} {arguments!r:.200}"))
        elif event == "open" and arguments[0] != os.devnull and is_a_write(*arguments[1:3]):
            noted.append((current[0], f"open for writing {arguments[0]!r}"))

    sys.addaudithook(note)
    for name in names:
        current[0] = name
        before = threading.active_count()
        importlib.import_module(name)
        if threading.active_count() != before:
            noted.append((name, f"threads {[thread.name for thread in threading.enumerate()]}"))
    current[0] = "(after)"
    json.dump(noted, sys.stdout)


main(sys.argv[1:])
