"""Operations from request to result: the one way for HTTP, WebSocket and server-sent events.

`prepare` decides whether an operation may run, with as little work as can be; `execute` and
`subscribe` run it within its deadline and present what comes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic, perf_counter
from typing import Any

import msgspec
from graphql import ExecutionResult, Executor, GraphQLError, GraphQLSchema

from data.postgres.keys import Scope
from data.resources import Resources
from resolvers.context import Caller, Context
from resolvers.documents import AskedDocument, DocumentText, document_text
from resolvers.errors import Code, RateLimited, Refusal, TimedOut
from resolvers.loaders import Loaders
from resolvers.rate_limits import Meter
from resolvers.throttle import Throttle
from schema.documents import BadDocument, Document, Documents, Operation
from schema.execution import FastExecutor, Variables, coerce_variables, source_events
from schema.metering import rate_kind
from schema.presenting import coded, codes_of, presentable, presented, refused, unexpected
from telemetry.metrics import OperationOutcome, OperationType
from telemetry.rate_limits import RateKind


class Reason(Enum):
    """Why nothing of a request was executed: at which step it failed."""

    REQUEST = auto()  # it is no GraphQL request, or names no operation of its document
    PERSISTED = auto()  # it names a document that is not there, or may not be sent
    SYNTAX = auto()
    VALIDATION = auto()
    VARIABLES = auto()
    METHOD = auto()  # the operation's kind cannot be sent this way
    LIMIT = auto()  # it asks for more than one operation may
    THROTTLED = auto()  # the key has spent its budget
    SUBSCRIPTION = auto()  # the events cannot be had


_REASONS = {
    Code.GRAPHQL_PARSE_FAILED.value: Reason.SYNTAX,
    Code.GRAPHQL_VALIDATION_FAILED.value: Reason.VALIDATION,
    Code.QUERY_TOO_EXPENSIVE.value: Reason.LIMIT,
    Code.RATE_LIMITED.value: Reason.THROTTLED,
}


class RequestRefused(Exception):
    """Nothing was executed; `errors` say why, as a client may see them."""

    def __init__(
        self, errors: Sequence[GraphQLError], reason: Reason, kind: OperationType = "unknown"
    ) -> None:
        super().__init__(errors[0].message)
        self.errors = list(errors)
        self.reason = reason
        self.kind: OperationType = kind


# Both are structs, as every request makes one of each.
class Request(msgspec.Struct, frozen=True):
    """A GraphQL request, however it came. Its parts have the right types already."""

    query: str | None = None
    variables: Mapping[str, Any] | None = None
    operation_name: str | None = None
    extensions: Mapping[str, Any] = msgspec.field(default_factory=dict)
    document_id: str | None = None


class Prepared(msgspec.Struct, frozen=True):
    """An operation that may run. `cost` is in points."""

    document: Document
    operation: Operation
    variables: Variables
    context: Context
    cost: int
    is_dry_run: bool

    @property
    def kind(self) -> OperationType:
        """Query, mutation or subscription."""
        return self.operation.kind


@dataclass(frozen=True, slots=True)
class Policy:
    """How the service treats operations; what differs between development and production."""

    hide_suggestions: bool = True
    is_introspection_open: bool = False


ALL_KINDS: frozenset[OperationType] = frozenset({"query", "mutation", "subscription"})


@dataclass(slots=True)
class Operations:
    """Runs the operations of one schema. Stateless but for its documents and its throttle."""

    schema: GraphQLSchema
    policy: Policy
    throttle: Throttle
    documents: Documents = field(init=False)

    def __post_init__(self) -> None:
        self.documents = Documents(self.schema, self.policy.hide_suggestions)

    def context(
        self,
        resources: Resources,
        caller: Caller,
        *,
        body_bytes: int = 0,
        wants_new: bool = False,
        meter: Meter | None = None,
    ) -> Context:
        """What the resolvers of one request are given."""
        now = resources.clock()
        return Context(
            resources=resources,
            caller=caller,
            now=now,
            loaders=Loaders(resources.columnar, resources.tracing, resources.ledger.reads, now),
            throttle=self.throttle,
            body_bytes=body_bytes,
            wants_new=wants_new,
            meter=meter,
        )

    async def prepare(
        self,
        request: Request,
        context: Context,
        allowed: frozenset[OperationType] = ALL_KINDS,
    ) -> Prepared:
        """The operation, ready to run and paid for; raises `RequestRefused`."""
        try:
            return await self._prepare(request, context, allowed)
        except RequestRefused as refused_first:
            # What comes to nothing is counted as well.
            refusal = await _over_limit(context, "query") or refused_first
            self._count(context, refusal.kind, ExecutionResult(None, refusal.errors))
            raise refusal from None

    async def _prepare(
        self, request: Request, context: Context, allowed: frozenset[OperationType]
    ) -> Prepared:
        text = await self._text(request, context)
        document = self._document(text.text)
        if text.keep is not None:
            await text.keep()
        operation = document.operation(request.operation_name)
        if operation is None:
            raise RequestRefused([_no_operation(document, request)], Reason.REQUEST)
        kind = operation.kind
        if kind not in allowed:
            problem = coded(Code.BAD_USER_INPUT, f"a {kind} cannot be sent this way")
            raise RequestRefused([problem], Reason.METHOD, kind)
        if context.meter is not None and (
            over := await _over_limit(context, rate_kind(document.ast, operation.node), kind)
        ):
            raise over
        self._require_introspection(operation, context.caller)
        variables = coerce_variables(
            self.schema,
            operation.node,
            request.variables,
            hide_suggestions=self.policy.hide_suggestions,
        )
        if isinstance(variables, list):
            raise RequestRefused(list(map(presentable, variables)), Reason.VARIABLES, kind)
        cost = operation.cost.requested(variables.coerced)
        is_dry_run = _is_dry_run(request.extensions)
        if not is_dry_run:
            self._reserve(context, cost, kind)
        return Prepared(document, operation, variables, context, cost, is_dry_run)

    async def _text(self, request: Request, context: Context) -> DocumentText:
        asked = AskedDocument(
            request.query, request.extensions.get("persistedQuery"), request.document_id
        )
        try:
            return await document_text(context.resources, context.caller, asked)
        except Refusal as refusal:
            raise RequestRefused([refused(refusal)], Reason.PERSISTED) from None

    def _document(self, text: str) -> Document:
        try:
            return self.documents.of(text)
        except BadDocument as bad:
            code = codes_of(bad.errors)[0]
            raise RequestRefused(bad.errors, _REASONS[code]) from None

    def _require_introspection(self, operation: Operation, caller: Caller) -> None:
        if not operation.shape.uses_introspection or self.policy.is_introspection_open:
            return
        if Scope.ADMIN in caller.scopes and caller.site_id is None:
            return
        problem = coded(
            Code.GRAPHQL_VALIDATION_FAILED,
            "introspection is off here; ask with an admin key that is bound to no site",
        )
        raise RequestRefused([problem], Reason.VALIDATION, operation.kind)

    def _reserve(self, context: Context, cost: int, kind: OperationType) -> None:
        try:
            self.throttle.reserve(context.caller.key_id, cost, monotonic())
        except Refusal as refusal:
            error = refused(refusal)
            raise RequestRefused([error], _REASONS[refusal.code.value], kind) from None

    async def execute(self, prepared: Prepared, *, with_throttle: bool = True) -> ExecutionResult:
        """The result of a query or a mutation; it never raises.

        `extensions.cost` tells what was asked for and what it came to. The throttle's state is
        left out where the answer may be kept and shown again.
        """
        if prepared.is_dry_run:
            return ExecutionResult(None, None, self._settled(prepared, 0, unused=0))
        started = perf_counter()
        context = prepared.context
        with context.resources.tracing.span("graphql.operation"):
            result = presented(await self._run(prepared))
        actual = _actual_cost(prepared, result)
        unused = max(0, prepared.cost - actual)
        result.extensions = self._settled(
            prepared, actual, unused=unused, with_throttle=with_throttle
        )
        self._count(context, prepared.kind, result, perf_counter() - started)
        return result

    async def _run(self, prepared: Prepared) -> ExecutionResult:
        seconds = self.throttle.allowance.seconds
        loaders = prepared.context.loaders
        try:
            result = _executor(prepared).execute_operation()
            # Asked in this order, as an abstract class takes long to say no.
            if not isinstance(result, ExecutionResult) and isinstance(result, Awaitable):
                async with asyncio.timeout(seconds):
                    result = await result
        except TimeoutError:
            return ExecutionResult(None, [refused(_too_late(prepared.kind, seconds))])
        except Exception as error:  # noqa: BLE001 - whatever it is, a client gets an answer
            return ExecutionResult(None, [unexpected(error)])
        finally:
            loaders.cancel()
        assert isinstance(result, ExecutionResult)
        return result

    async def subscribe(self, prepared: Prepared) -> AsyncGenerator[ExecutionResult, None]:
        """One result for each event of a subscription; raises `RequestRefused`.

        Close it when nobody reads it any more.
        """
        executor = _executor(prepared)
        source = await source_events(executor)
        if isinstance(source, ExecutionResult):
            errors = list(map(presentable, source.errors or ()))
            refusal = RequestRefused(errors, Reason.SUBSCRIPTION, prepared.kind)
            self._count(prepared.context, prepared.kind, ExecutionResult(None, errors))
            raise refusal
        return _results(executor, source)

    def _settled(
        self, prepared: Prepared, actual: int, *, unused: int, with_throttle: bool = True
    ) -> dict[str, object]:
        """What an operation came to; what it did not need goes back to its key's budget."""
        left = self.throttle.settle(prepared.context.caller.key_id, unused, monotonic())
        cost: dict[str, object] = {
            "requestedQueryCost": prepared.cost,
            "actualQueryCost": actual,
        }
        if with_throttle:
            cost["throttleStatus"] = {
                "maximumAvailable": left.maximum,
                "currentlyAvailable": left.available,
                "restoreRate": left.restore_rate,
            }
        return {"cost": cost}

    def _count(
        self,
        context: Context,
        kind: OperationType,
        result: ExecutionResult,
        seconds: float | None = None,
    ) -> None:
        metrics = context.resources.metrics.graphql
        errors = result.errors or ()
        outcome: OperationOutcome = (
            "succeeded" if not errors else "partial" if result.data else "failed"
        )
        metrics.operations[kind, outcome].inc()
        if seconds is not None:
            metrics.operation_seconds[kind].observe(seconds)
        if errors:
            for code in codes_of(errors):
                metrics.errors.labels(code).inc()


def _executor(prepared: Prepared) -> FastExecutor:
    return prepared.operation.executor.begun(prepared.variables, prepared.context)


async def _over_limit(
    context: Context, rate: RateKind, kind: OperationType = "unknown"
) -> RequestRefused | None:
    """Count the request; the refusal where that is one too many."""
    if context.meter is None:
        return None
    try:
        await context.meter.count(rate)
    except RateLimited as limited:
        return RequestRefused([refused(limited)], Reason.THROTTLED, kind)
    return None


def _actual_cost(prepared: Prepared, result: ExecutionResult) -> int:
    errors = result.errors
    if errors and any(isinstance(error.original_error, TimedOut) for error in errors):
        return prepared.cost  # it had the stores at work for as long as may be
    if result.data is None and prepared.kind == "mutation" and _is_of_several(prepared):
        return prepared.cost  # one failed and took the answers of those along that were done
    return prepared.operation.cost.actual(result.data, prepared.variables.coerced)


def _is_of_several(prepared: Prepared) -> bool:
    return prepared.operation.shape.root_fields > 1


def _too_late(kind: OperationType, seconds: float) -> TimedOut:
    what_now = (
        "it may have been done; send it again, events with the same ids"
        if kind == "mutation"
        else "ask for less at once"
    )
    return TimedOut(f"the answer took longer than {seconds:g} s; {what_now}")


def _no_operation(document: Document, request: Request) -> GraphQLError:
    if request.operation_name is not None:
        message = f"the document has no operation named {request.operation_name!r}"
    elif document.operations:
        message = "the document has several operations: say which in operationName"
    else:
        message = "the document has no operation"
    return coded(Code.BAD_USER_INPUT, message)


def _is_dry_run(extensions: Mapping[str, Any]) -> bool:
    cost = extensions.get("cost")
    return isinstance(cost, dict) and cost.get("dryRun") is True


async def _results(
    executor: Executor[None], source: AsyncIterable[Any]
) -> AsyncGenerator[ExecutionResult, None]:
    told = 0
    try:
        async for event in source:
            result = executor.build_per_event_executor(event).execute_operation(False)
            if isinstance(result, Awaitable):
                result = await result
            assert isinstance(result, ExecutionResult)  # only @defer gives anything else
            # What a source had to leave out because its reader was slow, it counts.
            missed: int = getattr(source, "missed", 0)
            news = {"missed": missed - told} if missed > told else None
            told = missed
            yield presented(ExecutionResult(result.data, result.errors, news))
    except GraphQLError as error:
        yield ExecutionResult(None, [presentable(error)])
    except Refusal as refusal:
        yield ExecutionResult(None, [refused(refusal)])
    except Exception as error:  # noqa: BLE001 - whatever it is, a client gets an answer
        yield ExecutionResult(None, [unexpected(error)])
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
