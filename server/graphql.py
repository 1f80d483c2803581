"""GraphQL over HTTP: one thin ASGI view over the schema."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    execute,
    parse,
    validate,
)
from graphql.utilities import get_operation_ast
from starlette.types import Receive, Scope, Send

from data.resources import Resources
from resolvers.access import authenticate
from resolvers.context import Context
from resolvers.errors import Code, Overloaded, Refusal, Unavailable
from resolvers.loaders import Loaders
from server.bodies import BodyProblem, ClientGone, read_body
from server.responses import Answer, Header, encode_json, send_answer
from telemetry.logs import current_correlation_id
from telemetry.metrics import OperationOutcome
from telemetry.metrics import OperationType as OperationKind

log = structlog.get_logger()

_RESPONSE = b"application/graphql-response+json"
_LEGACY = b"application/json"
_decode = msgspec.json.Decoder().decode

_KINDS: dict[OperationType, OperationKind] = {
    OperationType.QUERY: "query",
    OperationType.MUTATION: "mutation",
    OperationType.SUBSCRIPTION: "subscription",
}

MAX_TOKENS = 10_000
MAX_DOCUMENT_CHARS = 100_000
CACHED_DOCUMENTS = 512


class BadRequest(Exception):
    """A request that is not GraphQL over HTTP, with its HTTP status."""

    def __init__(self, status: int, message: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asks to have executed."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None
    is_get: bool
    size: int


@dataclass(slots=True)
class Documents:
    """Parsed and validated documents, the most recent ones kept."""

    schema: GraphQLSchema
    hide_suggestions: bool
    _kept: OrderedDict[str, DocumentNode | list[GraphQLError]] = field(default_factory=OrderedDict)

    def of(self, query: str) -> DocumentNode | list[GraphQLError]:
        """The document of a query text, or what is wrong with it."""
        known = self._kept.get(query)
        if known is None:
            known = self._kept[query] = self._read(query)
            if len(self._kept) > CACHED_DOCUMENTS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(query)
        return known

    def _read(self, query: str) -> DocumentNode | list[GraphQLError]:
        if len(query) > MAX_DOCUMENT_CHARS:
            return [_coded(Code.GRAPHQL_PARSE_FAILED, "the document is too long")]
        try:
            document = parse(query, max_tokens=MAX_TOKENS, no_location=False)
        except GraphQLError as error:
            return [_with_code(error, Code.GRAPHQL_PARSE_FAILED)]
        except RecursionError:
            return [_coded(Code.GRAPHQL_PARSE_FAILED, "the document is nested too deep")]
        try:
            errors = validate(
                self.schema, document, max_errors=10, hide_suggestions=self.hide_suggestions
            )
        except RecursionError:
            return [_coded(Code.GRAPHQL_VALIDATION_FAILED, "the document is nested too deep")]
        if errors:
            return [_with_code(error, Code.GRAPHQL_VALIDATION_FAILED) for error in errors]
        return document


def _coded(code: Code, message: str) -> GraphQLError:
    return GraphQLError(message, extensions={"code": code.value})


def _with_code(error: GraphQLError, code: Code) -> GraphQLError:
    error.extensions = {**(error.extensions or {}), "code": code.value}
    return error


class GraphQL:
    """The ASGI endpoint. The resources come with the lifespan's state."""

    def __init__(self, schema: GraphQLSchema, *, hide_suggestions: bool) -> None:
        self.schema = schema
        self.hide_suggestions = hide_suggestions
        self.documents = Documents(schema, hide_suggestions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        media_type = _negotiated(headers)
        try:
            answer = await self._answer(scope, headers, receive, media_type)
        except ClientGone:
            answer = _failure(400, media_type, _coded(Code.BAD_USER_INPUT, "the body is cut off"))
        except BodyProblem as problem:
            error = _coded(Code.BAD_USER_INPUT, problem.message)
            answer = _failure(problem.status, _LEGACY, error)
        except BadRequest as bad:
            error = _coded(Code.BAD_USER_INPUT, bad.message)
            answer = _failure(bad.status, _LEGACY, error, bad.headers)
        except Refusal as refusal:
            error = GraphQLError(refusal.message, extensions=refusal.extensions)
            status = 401 if refusal.code is Code.UNAUTHENTICATED else 503
            answer = _failure(status, media_type, error, _retry(refusal))
        await send_answer(send, answer, ((b"vary", b"Accept, X-API-Key, Authorization"),))

    async def _answer(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, media_type: bytes
    ) -> Answer:
        resources: Resources = scope["state"]["resources"]
        operation = await _read_operation(scope, headers, receive)
        now = resources.clock()
        caller = await authenticate(resources, _key(headers), now)
        loaders = Loaders(resources.columnar, resources.tracing)
        context = Context(resources, caller, now, loaders, body_bytes=operation.size)
        started = perf_counter()
        with resources.tracing.span("graphql.operation"):
            kind, result = await self._run(operation, context)
        outcome: OperationOutcome = (
            "succeeded" if not result.errors else "partial" if result.data else "failed"
        )
        metrics = resources.metrics.graphql
        metrics.operations[kind, outcome].inc()
        metrics.operation_seconds[kind].observe(perf_counter() - started)
        for error in result.errors or ():
            metrics.errors.labels(str((error.extensions or {}).get("code"))).inc()
        return _result_answer(result, media_type)

    async def _run(
        self, operation: Operation, context: Context
    ) -> tuple[OperationKind, ExecutionResult]:
        document = self.documents.of(operation.query)
        if isinstance(document, list):
            return "unknown", ExecutionResult(None, document)
        node = get_operation_ast(document, operation.operation_name)
        if node is None:
            problem = "the document has no such operation, or several and none is named"
            return "unknown", ExecutionResult(None, [_coded(Code.BAD_USER_INPUT, problem)])
        kind = _KINDS[node.operation]
        if operation.is_get and kind != "query":
            raise BadRequest(405, "only queries can be asked by GET", ((b"allow", b"POST"),))
        return kind, await self._execute(document, node, operation, context)

    async def _execute(
        self,
        document: DocumentNode,
        node: OperationDefinitionNode,
        operation: Operation,
        context: Context,
    ) -> ExecutionResult:
        try:
            result = execute(
                self.schema,
                document,
                context_value=context,
                variable_values=operation.variables,
                operation_name=node.name.value if node.name else None,
            )
            if not isinstance(result, ExecutionResult):
                result = await result
        except RecursionError:
            deep = _coded(Code.BAD_USER_INPUT, "the operation is nested too deep")
            return ExecutionResult(None, [deep])
        errors = [_presentable(error) for error in result.errors or ()]
        return ExecutionResult(result.data, errors or None, result.extensions)


def _presentable(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it; what is unexpected is logged and masked."""
    original = error.original_error
    if isinstance(original, Refusal):
        return error
    if original is None or isinstance(original, GraphQLError):
        argument = _variable_of(error)
        details = {"argument": argument} if argument else {}
        code = {"code": Code.BAD_USER_INPUT.value}
        error.extensions = {**code, **details, **(error.extensions or {})}
        return error
    log.error("graphql.field.failed", path=error.path, exc_info=original)
    correlation_id = current_correlation_id()
    return GraphQLError(
        f"something went wrong here; the correlation id is {correlation_id}",
        nodes=error.nodes,
        path=error.path,
        extensions={
            "code": Code.INTERNAL_SERVER_ERROR.value,
            "correlationId": correlation_id,
        },
    )


def _variable_of(error: GraphQLError) -> str | None:
    """The variable whose value did not fit, as the executor tells by the node."""
    for node in error.nodes or ():
        if variable := getattr(node, "variable", None):
            return str(variable.name.value)
    return None


async def _read_operation(
    scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
) -> Operation:
    method = scope["method"]
    if method == "GET":
        query = scope["query_string"]
        return _operation(_get_parameters(query), is_get=True, size=len(query))
    if method != "POST":
        raise BadRequest(405, "use GET or POST", ((b"allow", b"GET, POST"),))
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise BadRequest(415, "the content type must be application/json")
    body = await read_body(headers, receive)
    try:
        sent = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(400, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BadRequest(400, "the body is nested too deep") from None
    if not isinstance(sent, dict):
        raise BadRequest(400, "the body must be an object; batches are not taken")
    return _operation(sent, is_get=False, size=len(body))


def _get_parameters(query: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=50, errors="strict")
    except ValueError:
        raise BadRequest(400, "the query string has odd characters or too many fields") from None
    sent: dict[str, Any] = dict(pairs)
    for name in ("variables", "extensions"):
        if name in sent:
            try:
                sent[name] = _decode(sent[name])
            except (msgspec.DecodeError, RecursionError):
                raise BadRequest(400, f"{name} is not JSON") from None
    return sent


def _operation(sent: Mapping[str, Any], *, is_get: bool, size: int) -> Operation:
    query, variables = sent.get("query"), sent.get("variables")
    name, extensions = sent.get("operationName"), sent.get("extensions")
    if not isinstance(query, str) or not query:
        raise BadRequest(400, "query must be a text")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequest(400, "variables must be an object")
    if name is not None and not isinstance(name, str):
        raise BadRequest(400, "operationName must be a text")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequest(400, "extensions must be an object")
    return Operation(query, variables, name or None, is_get, size)


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    if key := headers.get(b"x-api-key"):
        return key.decode("latin-1").strip()
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _negotiated(headers: Mapping[bytes, bytes]) -> bytes:
    """The media type to answer in: the newer one where a client asks for it by name."""
    accepted = headers.get(b"accept", b"").lower()
    return _RESPONSE if _RESPONSE in accepted else _LEGACY


def _retry(refusal: BaseException | None) -> tuple[Header, ...]:
    if isinstance(refusal, (Overloaded, Unavailable)):
        return ((b"retry-after", str(refusal.retry_after).encode()),)
    return ()


def _failure(
    status: int, media_type: bytes, error: GraphQLError, headers: tuple[Header, ...] = ()
) -> Answer:
    body = encode_json({"errors": [error.formatted]})
    return Answer(status, body, media_type + b"; charset=utf-8", headers)


def _result_answer(result: ExecutionResult, media_type: bytes) -> Answer:
    errors = result.errors or []
    # A request that could not be begun has no data entry; one that failed on the way has null.
    begun = any(error.path for error in errors) or not errors
    body: dict[str, object] = {"data": result.data} if begun else {}
    if errors:
        body["errors"] = [error.formatted for error in errors]
    if result.extensions:
        body["extensions"] = result.extensions
    status = _status(result, errors, begun=begun, media_type=media_type)
    retry = next((found for error in errors if (found := _retry(error.original_error))), ())
    return Answer(status, encode_json(body), media_type + b"; charset=utf-8", retry)


def _status(
    result: ExecutionResult, errors: Sequence[GraphQLError], *, begun: bool, media_type: bytes
) -> int:
    if not result.data and any(_retry(error.original_error) for error in errors):
        return 503
    return 400 if not begun and media_type == _RESPONSE else 200
