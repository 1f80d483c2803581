"""Errors as a client may see them: coded, and without a word about the inside of the service."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from graphql import ExecutionResult, GraphQLError

from resolvers.errors import Code, Refusal
from telemetry.logs import current_correlation_id

log = structlog.get_logger()


def coded(code: Code, message: str, **details: object) -> GraphQLError:
    """An error with a code of the contract."""
    return GraphQLError(message, extensions={"code": code.value, **details})


def with_code(error: GraphQLError, code: Code) -> GraphQLError:
    """The error with a code, and with what it already tells."""
    error.extensions = {"code": code.value, **(error.extensions or {})}
    return error


def refused(refusal: Refusal) -> GraphQLError:
    """A refusal as an error of the whole request."""
    return GraphQLError(
        refusal.message, original_error=refusal, extensions=dict(refusal.extensions)
    )


def presentable(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it; what is unexpected is logged and masked."""
    original = error.original_error
    if isinstance(original, Refusal):
        return error
    if original is None or (isinstance(original, GraphQLError) and not _is_of_answer(error)):
        argument = _variable_of(error)
        details = {"argument": argument} if argument else {}
        error.extensions = {
            "code": Code.BAD_USER_INPUT.value,
            **details,
            **(error.extensions or {}),
        }
        return error
    log.error("graphql.field.failed", path=error.path, exc_info=original)
    return _masked(error)


def unexpected(error: BaseException) -> GraphQLError:
    """What a client hears of a failure outside of any field; the cause is logged."""
    log.error("graphql.operation.failed", exc_info=error)
    return _masked(None)


def presented(result: ExecutionResult) -> ExecutionResult:
    """The result with its errors as a client may see them."""
    if not result.errors:
        return result
    errors = [presentable(error) for error in result.errors]
    return ExecutionResult(result.data, errors, result.extensions)


def codes_of(errors: Iterable[GraphQLError]) -> list[str]:
    """The code of each error."""
    return [str((error.extensions or {}).get("code")) for error in errors]


def _masked(error: GraphQLError | None) -> GraphQLError:
    correlation_id = current_correlation_id()
    return GraphQLError(
        f"something went wrong here; the correlation id is {correlation_id}",
        nodes=error.nodes if error else None,
        path=error.path if error else None,
        extensions={
            "code": Code.INTERNAL_SERVER_ERROR.value,
            "correlationId": correlation_id,
        },
    )


def _is_of_answer(error: GraphQLError) -> bool:
    """Whether a type could not show what a resolver gave; arguments have a place in the document."""
    original = error.original_error
    return error.path is not None and isinstance(original, GraphQLError) and not original.nodes


def _variable_of(error: GraphQLError) -> str | None:
    """The variable whose value did not fit, as the executor tells by the node."""
    for node in error.nodes or ():
        if variable := getattr(node, "variable", None):
            return str(variable.name.value)
    return None
