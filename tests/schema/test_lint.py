"""House rules of the schema beyond descriptions and spelling, which test_sdl.py looks at.

Each rule is a function that lists what breaks it; the table at the end proves that it can.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLType,
    Undefined,
    build_schema,
    get_named_type,
    is_list_type,
    is_non_null_type,
    is_specified_directive,
)

from schema.build import graphql_schema
from tests.schema.test_sdl import types_of

Rule = Callable[[GraphQLSchema], list[str]]

# What an answer may leave out, and why. Anything else is there, or the question has failed.
NULLABLE = {
    "its sender need not tell": {
        "Event.path",
        "Event.properties",
        "Event.referrer",
        "Event.sessionId",
        "Event.url",
        "Event.userId",
        "Event.visitorId",
    },
    "it depends on what became of the event, or on how it was asked for": {
        "IngestReceipt.code",
        "IngestReceipt.eventId",
        "IngestReceipt.index",
        "IngestReceipt.message",
    },
    "what cannot be decoded tells nothing": {"DeadLetter.siteId"},
    "an empty page has no place": {"PageInfo.endCursor", "PageInfo.startCursor"},
    "what is known may be nothing, and is an answer all the same": {
        "Query.receipts",  # its entries
        "Query.record",
        "Query.site",
    },
    "a part of the service may be down": {
        "System.copyPosition",
        "System.dataThrough",
        "System.ledgerPosition",
        "System.queue",
    },
    "there may be no time to count what differs": {
        "ReconciledDay.copy",
        "ReconciledDay.copyEvents",
        "ReconciledDay.ledger",
        "ReconciledDay.ledgerEvents",
        "ReconciledDay.view",
    },
    "it concerns no single site": {"AdminLog.siteId"},
    "a key may be without bounds": {
        *("Viewer.expiresAt", "Viewer.site", "ViewerLimits.requests"),
        *("ApiKey.siteId", "ApiKey.expiresAt"),
    },
    "it may not have happened yet": {
        *("ApiKey.revokedAt", "ApiKey.lastUsedAt", "Record.vanishedAt", "Source.lastAudit"),
        *("Source.lastFailureAt", "Source.lastSuccessAt", "SourceSummaryRow.ageSeconds"),
    },
    "a source need not say it": {
        *("Source.cron", "Source.paging", "Source.recordsAt", "Source.recordsQuery"),
        *("Source.siteId", "SourceHeader.secret", "SourcePaging.nextAt", "SourcePaging.parameter"),
    },
    "a source may be at rest, or switched off": {"Source.refresh", "Source.nextAttemptAt"},
    "it tells of what went wrong": {"Audit.error", "Audit.httpStatus"},
    "a record that vanished has no content": {"RecordChange.data"},
    "an export need not have it": {
        *("ExportDestination.backup", "ExportDestination.filter", "ExportDestination.webhookUrl"),
        *("ExportDestination.thresholdEvents", "ExportLogin.externalId", "ExportLogin.roleArn"),
        *("ExportRun.since", "ExportRun.until"),
    },
    "buckets of AWS have no endpoint of their own": {
        *("ExportBackup.endpointUrl", "ExportDestination.endpointUrl", "ExportSetup.endpointUrl"),
    },
    "an export may be paused, or be at rest": {
        *("ExportBackup.pausedReason", "ExportDestination.pausedReason"),
        *("ExportDestination.nextRunAt", "ExportRun.nextAttemptAt", "ExportTarget.nextAttemptAt"),
    },
    "a run may not have come to its end, or to any trouble": {
        "ExportDestination.lastRun",
        *(f"ExportRun.{name}" for name in ("error", "finishedAt", "manifestKey")),
        *(f"ExportTarget.{name}" for name in ("error", "finishedAt", "manifestKey", "reason")),
    },
    "it is shown once": {"ExportDestination.hookToken", "ExportDestination.webhookSecret"},
}
# Texts that senders choose; we give them no meaning and make none.
IDS_OF_SENDERS = {"externalId", "sessionId", "userId", "visitorId"}
IDS_OF_SENDERS |= {"accessKeyId", "backupAccessKeyId"}
# Ids that senders make, but of one form.
UUIDS = {"eventId", "eventIds"}
VERBS = ("add", "create", "delete", "ingest", "invalidate", "refresh", "remove", "replay", "retry",
         "revoke", "run", "save", "set", "verify")  # fmt: skip
NOT_NOUNS = re.compile(r"(get|list|fetch|find|read|query|all)([A-Z]|$)")
MOMENTS = re.compile(r"at|[a-z]\w*At|dataThrough|since|until|changed(Since|Before)")
# Places in a document.
POINTERS = {"nextAt", "recordsAt"}


def answered(schema: GraphQLSchema) -> Iterator[tuple[str, str, GraphQLField]]:
    """Every field of an answer with its place and its name."""
    for named in types_of(schema):
        if isinstance(named, (GraphQLObjectType, GraphQLInterfaceType)):
            for name, field in named.fields.items():
                yield f"{named.name}.{name}", name, field


def sent(
    schema: GraphQLSchema,
) -> Iterator[tuple[str, str, GraphQLArgument | GraphQLInputField]]:
    """Every argument and field of an input with its place and its name."""
    for named in types_of(schema):
        if isinstance(named, GraphQLInputObjectType):
            for name, input_field in named.fields.items():
                yield f"{named.name}.{name}", name, input_field
    for place, _, field in answered(schema):
        for name, argument in field.args.items():
            yield f"{place}({name})", name, argument


def everything(
    schema: GraphQLSchema,
) -> Iterator[tuple[str, str, GraphQLField | GraphQLArgument | GraphQLInputField]]:
    """All that has a name and a type."""
    yield from answered(schema)
    yield from sent(schema)


def roots(schema: GraphQLSchema) -> Iterator[tuple[str, str, GraphQLField]]:
    """The fields of the root types."""
    names = {one.name for one in (schema.query_type, schema.subscription_type) if one}
    return (found for found in answered(schema) if found[0].split(".")[0] in names)


def commands(schema: GraphQLSchema) -> dict[str, GraphQLField]:
    """The fields of the mutation type."""
    return schema.mutation_type.fields if schema.mutation_type else {}


def is_whole(kind: GraphQLType) -> bool:
    """Whether neither it nor, in a list, any entry can be null."""
    if not is_non_null_type(kind):
        return False
    return not is_list_type(kind.of_type) or is_whole(kind.of_type.of_type)


def nullable_on_purpose(schema: GraphQLSchema) -> list[str]:
    """An answer is whole, but for what `NULLABLE` gives a reason for."""
    found = {place for place, _, field in answered(schema) if not is_whole(field.type)}
    return sorted(found ^ set().union(*NULLABLE.values()))


def lists_without_holes(schema: GraphQLSchema) -> list[str]:
    """What is sent as a list has no null in it, though the list itself may be left out."""
    found = []
    for place, _, one in sent(schema):
        kind = one.type.of_type if is_non_null_type(one.type) else one.type
        if is_list_type(kind) and not is_whole(kind.of_type):
            found.append(place)
    return found


def ids_are_ids(schema: GraphQLSchema) -> list[str]:
    """`id` and names that end so are ID, UUID or a sender's own text; nothing else is an ID."""
    found = []
    for place, name, one in everything(schema):
        kind = get_named_type(one.type).name
        wanted = "ID" if re.fullmatch(r"ids?|\w+Ids?", name) else None
        wanted = "UUID" if name in UUIDS else wanted
        wanted = (
            ("StringFilter" if "Filter." in place else "String")
            if name in IDS_OF_SENDERS
            else wanted
        )
        if kind != wanted and (wanted or kind in ("ID", "UUID")):
            found.append(place)
    return found


def moments_are_named(schema: GraphQLSchema) -> list[str]:
    """A moment is called `at` or `...At`, a bound `since` or `until`; what is so called is one."""
    return [
        place
        for place, name, one in everything(schema)
        if name not in POINTERS
        and (get_named_type(one.type).name == "DateTime") != bool(MOMENTS.fullmatch(name))
    ]


def claims_are_adjectives(schema: GraphQLSchema) -> list[str]:
    """Something true or false says what it claims, without `get`, `do` or `flag`."""
    return [
        place
        for place, name, one in everything(schema)
        if get_named_type(one.type).name == "Boolean"
        and re.match(r"(get|do|does|flag|enable|disable|no|not)([A-Z]|$)|\w*Flag$", name)
    ]


def questions_are_nouns(schema: GraphQLSchema) -> list[str]:
    """What can be asked or listened to is called by what it is."""
    return [place for place, name, _ in roots(schema) if NOT_NOUNS.match(name)]


def commands_are_verbs(schema: GraphQLSchema) -> list[str]:
    """A mutation is a verb, of those in use, with what it is done to."""
    return [
        name
        for name in commands(schema)
        if not re.fullmatch(rf"({'|'.join(VERBS)})([A-Z]\w*)?", name)
    ]


def commands_take_one_input(schema: GraphQLSchema) -> list[str]:
    """A mutation takes one `input: SomethingInput!`, or the `id` or key of what it is about."""
    found = []
    for name, field in commands(schema).items():
        taken = {argument: str(one.type) for argument, one in field.args.items()}
        is_input = set(taken) == {"input"} and re.fullmatch(r"\w+Input!", taken["input"])
        if not is_input and any(kind.rstrip("!").endswith("Input") for kind in taken.values()):
            found.append(name)
    return found


def payloads_are_of_commands(schema: GraphQLSchema) -> list[str]:
    """`XPayload` is what the mutation `x` answers, and nothing else does."""
    wrong = []
    for place, name, field in answered(schema):
        kind = get_named_type(field.type).name
        is_command = place.startswith("Mutation.")
        if kind.endswith("Payload") and not (
            is_command and kind == f"{name[:1].upper()}{name[1:]}Payload"
        ):
            wrong.append(place)
    return wrong


def connections_are_alike(schema: GraphQLSchema) -> list[str]:
    """A connection has edges, nodes and page info, and whoever answers one takes first and after."""
    found = []
    for named in types_of(schema):
        if not named.name.endswith("Connection") or not isinstance(named, GraphQLObjectType):
            continue
        kind = named.name.removesuffix("Connection")
        whole = {"edges": f"[{kind}Edge!]!", "nodes": f"[{kind}!]!", "pageInfo": "PageInfo!"}
        edge = {"cursor": "String!", "node": f"{kind}!"}
        if not has(named, whole) or not has(schema.type_map.get(f"{kind}Edge"), edge):
            found.append(named.name)
    for place, _, field in answered(schema):
        taken = {name: str(argument.type) for name, argument in field.args.items()}
        is_page = get_named_type(field.type).name.endswith("Connection")
        if is_page and (taken.get("first"), taken.get("after")) != ("Int!", "String"):
            found.append(place)
    return found


def has(named: GraphQLNamedType | None, fields: dict[str, str]) -> bool:
    """Whether a type has these fields of these types."""
    found = named.fields if isinstance(named, GraphQLObjectType) else {}
    return fields.items() <= {name: str(field.type) for name, field in found.items()}.items()


def reports_say_what_they_rest_on(schema: GraphQLSchema) -> list[str]:
    """A `SomethingReport` implements Report."""
    return [
        named.name
        for named in types_of(schema)
        if isinstance(named, GraphQLObjectType)
        and named.name.endswith("Report")
        and "Report" not in {one.name for one in named.interfaces}
    ]


def defaults_are_not_null(schema: GraphQLSchema) -> list[str]:
    """An argument with a default takes no null: there would be two ways to say the same."""
    return [
        place
        for place, _, one in sent(schema)
        if isinstance(one, GraphQLArgument)
        and (one.default is not None or one.default_value is not Undefined)
        and not is_non_null_type(one.type)
    ]


def deprecations_help(schema: GraphQLSchema) -> list[str]:
    """What is deprecated says what to use instead and until when it stays; nobody must send it."""
    parts: list[tuple[str, GraphQLField | GraphQLArgument | GraphQLInputField | GraphQLEnumValue]]
    parts = [(place, one) for place, _, one in everything(schema)]
    for named in types_of(schema):
        values = getattr(named, "values", {})
        parts += [(f"{named.name}.{name}", value) for name, value in values.items()]
    return [
        place
        for place, one in parts
        if one.deprecation_reason is not None
        and not (
            re.fullmatch(r"Use .+ It goes away after \d{4}-\d{2}-\d{2}\.", one.deprecation_reason)
            and (
                isinstance(one, (GraphQLField, GraphQLEnumValue)) or not str(one.type).endswith("!")
            )
        )
    ]


def directives_are_described(schema: GraphQLSchema) -> list[str]:
    """Directives of our own, and their arguments, are explained like everything else."""
    found = []
    for directive in schema.directives:
        if not is_specified_directive(directive):
            found += [] if directive.description else [f"@{directive.name}"]
            found += [
                f"@{directive.name}({name})"
                for name, argument in directive.args.items()
                if not argument.description
            ]
    return found


BREAKS: dict[Rule, tuple[str, list[str]]] = {
    lists_without_holes: (
        "type Query { a(b: [Int!]!, c: [Int], d: [[Int!]]): Int } input I { e: [Int]! f: [Int!] }",
        ["I.e", "Query.a(c)", "Query.a(d)"],
    ),
    ids_are_ids: (
        (
            "scalar UUID type Query { id: String eventId: ID name: ID siteId: ID userId: String "
            "aid(ids: ID): Int }"
        ),
        ["Query.id", "Query.eventId", "Query.name"],
    ),
    moments_are_named: (
        "scalar DateTime type Query { at: Int created: DateTime createdAt: DateTime flat: Int }",
        ["Query.at", "Query.created"],
    ),
    claims_are_adjectives: (
        "type Query { getDone: Boolean done(noCache: Boolean): Boolean notes: Boolean }",
        ["Query.getDone", "Query.done(noCache)"],
    ),
    questions_are_nouns: (
        "type Query { getSite: Int all: Int allowance: Int } type Subscription { listSites: Int }",
        ["Query.getSite", "Query.all", "Subscription.listSites"],
    ),
    commands_are_verbs: (
        "type Query { a: Int } type Mutation { site: Int saveSite: Int saved: Int ingest: Int }",
        ["site", "saved"],
    ),
    commands_take_one_input: (
        (
            "type Query { a: Int } input AInput { a: Int } type Mutation { saveA(a: AInput!): Int "
            "saveB(input: AInput): Int saveC(input: AInput!): Int saveD(id: ID!): Int }"
        ),
        ["saveA", "saveB"],
    ),
    payloads_are_of_commands: (
        (
            "type Query { a: RunPayload } type RunPayload { b: Int } "
            "type Mutation { run: RunPayload saveRun: RunPayload }"
        ),
        ["Mutation.saveRun", "Query.a"],
    ),
    connections_are_alike: (
        (
            "type Query { a(first: Int! = 1, after: String): AConnection! b: AConnection! "
            "c(first: Int!, after: String): BConnection } type PageInfo { a: Int } type A { a: Int } "
            "type AConnection { edges: [AEdge!]! nodes: [A!]! pageInfo: PageInfo! } "
            "type AEdge { cursor: String! node: A! } type BConnection { nodes: [A!]! }"
        ),
        ["BConnection", "Query.b"],
    ),
    reports_say_what_they_rest_on: (
        (
            "interface Report { a: Int } type Query { a: AReport b: BReport } type AReport { a: Int } "
            "type BReport implements Report { a: Int }"
        ),
        ["AReport"],
    ),
    defaults_are_not_null: (
        "type Query { a(b: Int = 1, c: Int! = 1, d: Int): Int }",
        ["Query.a(b)"],
    ),
    deprecations_help: (
        (
            "enum Kind { A B @deprecated } type Query { kind: Kind @deprecated(reason: "
            '"Use `other`. It goes away after 2027-01-31.") a: Int @deprecated(reason: "Old.") }'
        ),
        ["Query.a", "Kind.B"],
    ),
    directives_are_described: (
        'directive @a(b: Int) on FIELD "A." directive @c("D." d: Int) on FIELD type Query { a: Int }',
        ["@a", "@a(b)"],
    ),
}


@pytest.mark.parametrize("rule", [nullable_on_purpose, *BREAKS], ids=lambda rule: rule.__name__)
def test_the_schema_keeps_the_rule(rule: Rule) -> None:
    assert rule(graphql_schema()) == []


@pytest.mark.parametrize("rule", BREAKS, ids=lambda rule: rule.__name__)
def test_what_breaks_the_rule_is_noticed(rule: Rule) -> None:
    sdl, expected = BREAKS[rule]

    assert rule(build_schema(sdl)) == expected


def test_what_is_nullable_without_a_reason_is_noticed() -> None:
    odd = build_schema("type Query { a: Int b: Int! c: [Int!] d: [Int]! e: [Int!]! f: [[Int!]]! }")

    reasons = set().union(*NULLABLE.values())
    assert set(nullable_on_purpose(odd)) - reasons == {"Query.a", "Query.c", "Query.d", "Query.f"}
    assert set(nullable_on_purpose(odd)) >= reasons
