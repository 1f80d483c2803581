"""Runs the command lines that come in on standard input, and tells how each ended.

A program of its own and no part of the tests' process: commands set up logs, take signals and end
the process, all of which is theirs to do.
"""

import contextlib
import io
import json
import os
import sys

from server.cli import main


def run(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    os.environ.clear()
    os.environ.update(environment)
    while "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        os.environ[name] = value
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    for line in sys.stdin:
        order = json.loads(line)
        os.chdir(order["cwd"])
        ended = [run(arguments, order["environment"]) for arguments in order["commands"]]
        print(json.dumps(ended), flush=True)  # noqa: T201 - the answer
