"""What a schema takes back from clients that were written for an earlier one."""

from __future__ import annotations

from graphql import (
    BreakingChangeType,
    DangerousChangeType,
    GraphQLSchema,
    GraphQLSyntaxError,
    build_schema,
)
from graphql.utilities import find_breaking_changes, find_dangerous_changes

# A default is what a client gets that says nothing: another one gives the same question another
# answer. Whatever else counts as dangerous is an addition, and clients are told to expect those.
_SILENT = {
    DangerousChangeType.ARG_DEFAULT_VALUE_CHANGE,
    DangerousChangeType.INPUT_FIELD_DEFAULT_VALUE_CHANGE,
}
# They tell of a schema; no document of a client uses them.
_FOR_READERS = {
    BreakingChangeType.DIRECTIVE_REMOVED,
    BreakingChangeType.DIRECTIVE_ARG_REMOVED,
    BreakingChangeType.REQUIRED_DIRECTIVE_ARG_ADDED,
    BreakingChangeType.DIRECTIVE_REPEATABLE_REMOVED,
    BreakingChangeType.DIRECTIVE_LOCATION_REMOVED,
}


class NoSchema(Exception):
    """A text is no schema in GraphQL's schema language."""


def breaks(before: str, now: str) -> list[str]:
    """Sentences about what clients of the schema `before` can no longer rely on; empty is good.

    Both are given as SDL; raises `NoSchema`.
    """
    old, new = _schema(before), _schema(now)
    return [
        *(
            change.description
            for change in find_breaking_changes(old, new)
            if change.type not in _FOR_READERS
        ),
        *(
            change.description
            for change in find_dangerous_changes(old, new)
            if change.type in _SILENT
        ),
    ]


def _schema(sdl: str) -> GraphQLSchema:
    try:
        return build_schema(sdl)
    except (GraphQLSyntaxError, TypeError) as error:
        raise NoSchema(str(error)) from None
