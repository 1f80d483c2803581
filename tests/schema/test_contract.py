"""The contract for clients: what it names exists here, under the same names and types."""

from collections.abc import Iterable

import pytest
from graphql import (
    DocumentNode,
    EnumTypeDefinitionNode,
    FieldDefinitionNode,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    TypeDefinitionNode,
    TypeNode,
    parse,
    print_ast,
)

from schema.build import sdl
from tests.architecture.rules import ROOT

CONTRACT = ROOT.parent / "shared" / "design" / "schema.graphql"

# The part of the contract that this version answers.
ANSWERED = {
    "Query": {
        "dau",
        "activeUsers",
        "topEvents",
        "eventCounts",
        "retention",
        "events",
        "userEvents",
        "receipts",
        "site",
        "sites",
        "viewer",
        "system",
        *("audits", "record", "records", "sources", "sourceSummary"),
        *("exportDestinations", "exportRuns"),
    },
    "Mutation": {
        *("ingest", "invalidateCache", "saveSite", "createApiKey", "revokeApiKey"),
        *("deleteSource", "refreshSources", "saveSource"),
        *("deleteExportDestination", "retryExport", "runExport", "saveExportDestination"),
        *("setExportPaused", "verifyExport"),
    },
    "Subscription": {"liveEvents", "liveActivity"},
}
# What the contract leaves to the issues that ask for it.
ADDED = {
    "DocumentsMode",
    "Viewer",
    "ViewerLimits",
    "System",
    "SystemPart",
    "PartStatus",
    "DeadLetter",
    "DeadLetterConnection",
    "DeadLetterEdge",
    "SystemQueue",
    "ReconciledDay",
    "ResultCache",
    *("ApiKey", "DocumentsMode", "PartStatus", "RequestLimit", "System", "SystemPart"),
    *("Viewer", "ViewerLimits"),
}
ADDED |= {"AuditConnection", "AuditEdge", "RecordConnection", "RecordEdge"}
ADDED |= {"RecordChange", "RecordChangeKind", "SourceRefresh", "SourceMethod", "SourceFormat"}
ADDED |= {f"Source{part}" for part in ("Header", "HeaderInput", "Limits")}
ADDED |= {f"SourcePaging{part}" for part in ("", "Input", "Kind")}
# What sources, records and audits tell beyond the contract, and what a source takes.
OF_SOURCES = {
    "Audit": "pages recordsAdded recordsVanished bytes isComplete",
    "Query": "audits(since) audits(until) records(changedBefore) records(changedSince) "
    "records(externalId) records(includeVanished)",
    "Record": "firstSeenAt vanishedAt history history(first)",
    "RefreshSourcesPayload": "running",
    "Source": "breakerFailures breakerSeconds createdAt cron failures format headers idField "
    "isDeclared lastAudit limits method paging recordsAt recordsQuery refresh siteId timezone "
    "updatedAt version",
    "SourceInput": "body breakerFailures breakerSeconds cron format headers maxBytes maxRecords "
    "method minRecords paging recordsQuery siteId timeoutSeconds timezone",
}
ADDED |= {f"Export{part}" for part in ("Backup", "Day", "Login", "LoginKind", "Setup")}
ADDED |= {f"Export{part}" for part in ("RunConnection", "RunEdge", "TargetKind", "Trigger")}
# What exports tell beyond the contract, and what a destination takes.
OF_EXPORTS = {
    "ExportDestination": "backup createdAt endpointUrl fields filter hookToken login maxFileBytes "
    "region thresholdEvents timezone updatedAt version webhookSecret webhookUrl",
    "ExportDestinationInput": "backupAccessKeyId backupEndpointUrl backupPrefix backupRegion "
    "backupRoleArn backupSecretAccessKey fields filter maxFileBytes roleArn rotateHook "
    "rotateWebhookSecret timezone",
    "ExportRun": "after days days(first) fileCount files(first) isBackfill nextAttemptAt number "
    "since through trigger until",
    "ExportTarget": "attempts bytes events fileCount finishedAt kind manifestKey nextAttemptAt "
    "prefix reason",
    "ExportVerification": "verifiedAt",
    "Query": "exportSetup exportSetup(siteId)",
}
ADDED |= {f"AdminLog{part}" for part in ("", "Actor", "Connection", "Edge")}
ADMIN_LOG_TAKES = ("siteId", "action", "since", "until", "first", "after")

Types = dict[str, TypeDefinitionNode]


def types_in(document: DocumentNode) -> Types:
    """Definitions of types by name."""
    return {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, TypeDefinitionNode)
    }


def name_of(node: TypeNode) -> str:
    """The type inside of lists and non-null marks."""
    while not hasattr(node, "name"):
        node = node.type  # type: ignore[attr-defined]
    return str(node.name.value)


def text_of(node: TypeNode, default: object = None) -> str:
    """A type with its default, as the schema language writes them."""
    text = print_ast(node)
    return text if default is None else f"{text} = {print_ast(default)}"  # type: ignore[arg-type]


def members(node: TypeDefinitionNode, answered: dict[str, set[str]]) -> dict[str, str]:
    """What a definition holds, each with its type: fields, arguments, values, interfaces."""
    found: dict[str, str] = {}
    if isinstance(node, EnumTypeDefinitionNode):
        return {value.name.value: "value" for value in node.values or ()}
    if isinstance(node, InputObjectTypeDefinitionNode):
        return inputs(node.fields or ())
    if isinstance(node, (ObjectTypeDefinitionNode, InterfaceTypeDefinitionNode)):
        for field in fields_of(node, answered):
            found[field.name.value] = text_of(field.type)
            arguments = inputs(field.arguments or ())
            found |= {f"{field.name.value}({name})": text for name, text in arguments.items()}
        found |= {f"implements {one.name.value}": "interface" for one in node.interfaces or ()}
    return found


def inputs(nodes: Iterable[InputValueDefinitionNode]) -> dict[str, str]:
    """Input fields or arguments with their types and defaults."""
    return {node.name.value: text_of(node.type, node.default_value) for node in nodes}


def fields_of(
    node: ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode, answered: dict[str, set[str]]
) -> list[FieldDefinitionNode]:
    """The fields of a type; of a root, those that are answered."""
    chosen = answered.get(node.name.value)
    return [one for one in node.fields or () if chosen is None or one.name.value in chosen]


def needed(types: Types, answered: dict[str, set[str]]) -> set[str]:
    """Names of the types that the answered fields lead to."""
    found: set[str] = set()
    waiting = set(answered)
    while waiting:
        name = waiting.pop()
        found.add(name)
        node = types.get(name)
        reached: list[TypeNode] = []
        if isinstance(node, InputObjectTypeDefinitionNode):
            reached += [field.type for field in node.fields or ()]
        elif isinstance(node, (ObjectTypeDefinitionNode, InterfaceTypeDefinitionNode)):
            reached += node.interfaces or ()
            for field in fields_of(node, answered):
                reached += [field.type, *(argument.type for argument in field.arguments or ())]
        waiting |= {name_of(one) for one in reached} & types.keys() - found
    return found


def breaches(contract: Types, ours: Types, answered: dict[str, set[str]]) -> list[str]:
    """Where ours is not what the contract says, or asks for what the contract doesn't."""
    found = []
    for name in sorted(needed(contract, answered)):
        if name not in ours or type(ours[name]) is not type(contract[name]):
            found.append(f"{name}: missing")
            continue
        promised, kept = members(contract[name], answered), members(ours[name], answered)
        for member, text in promised.items():
            if kept.get(member) != text:
                found.append(f"{name}.{member}: {text} became {kept.get(member)}")
        found += [
            f"{name}.{member}: asked for in addition"
            for member, text in kept.items()
            if member not in promised
            and (isinstance(contract[name], InputObjectTypeDefinitionNode) or "(" in member)
            and text.endswith("!")
        ]
    return found


def contract_types() -> Types:
    """The definitions of the contract."""
    if not CONTRACT.is_file():
        pytest.skip(f"the contract is not beside this repository: no file {CONTRACT}")
    return types_in(parse(CONTRACT.read_text(encoding="utf-8")))


def test_the_contract_is_kept() -> None:
    assert breaches(contract_types(), types_in(parse(sdl())), ANSWERED) == []


def test_what_goes_beyond_the_contract_is_known() -> None:
    contract, ours = contract_types(), types_in(parse(sdl()))

    assert set(ours) - set(contract) == ADDED
    assert [one for one in needed(contract, ANSWERED) if one not in ours] == []
    beyond = {
        f"{name}.{member}"
        for name in set(ours) & set(contract)
        for member in members(ours[name], {}).keys() - members(contract[name], {}).keys()
    }
    assert beyond == {
        "ApiKeyInput.documents",
        "EventConnection.meta",
        "Mutation.deleteDeadLetters",
        "Mutation.deleteDeadLetters(ids)",
        "Mutation.replayDeadLetters",
        "Mutation.replayDeadLetters(ids)",
        "Query.deadLetters",
        "Query.deadLetters(after)",
        "Query.deadLetters(first)",
        "Query.adminLog",
        *(f"Query.adminLog({name})" for name in ADMIN_LOG_TAKES),
        "Query.apiKeys",
        "Query.apiKeys(siteId)",
        "RejectionCode.INVALID_EVENT_ID",
        "RejectionCode.INVALID_TEXT",
        "RejectionCode.UNKNOWN_FIELD",
        *(f"{name}.{one}" for name, more in OF_SOURCES.items() for one in more.split()),
        *(f"{name}.{one}" for name, more in OF_EXPORTS.items() for one in more.split()),
    }


@pytest.mark.parametrize(
    ("ours", "breach"),
    [
        ("type Query { a(b: In): [Kind!] } input In { c: Int = 1 } enum Kind { X }", "Query.a"),
        ("type Query { a(b: In!): [Kind!]! } input In { c: Int = 1 } enum Kind { X }", "a(b)"),
        ("type Query { a: [Kind!]! } input In { c: Int = 1 } enum Kind { X }", "a(b)"),
        ("type Query { a(b: In): [Kind!]! } input In { c: Int = 2 } enum Kind { X }", "In.c"),
        ("type Query { a(b: In): [Kind!]! } input In { c: Int } enum Kind { X }", "In.c"),
        ("type Query { a(b: In): [Kind!]! } input In { c: Int = 1 } enum Kind { Y }", "Kind.X"),
        ("type Query { a(b: In): [Kind!]! } type In { c: Int } enum Kind { X }", "In: missing"),
        (
            "type Query { a(b: In): [Kind!]! } input In { c: Int = 1 d: Int! } enum Kind { X }",
            "In.d",
        ),
        (
            "type Query { a(b: In, d: Int!): [Kind!]! } input In { c: Int = 1 } enum Kind { X }",
            "a(d)",
        ),
    ],
)
def test_a_breach_is_noticed(ours: str, breach: str) -> None:
    contract = types_in(
        parse("type Query { a(b: In): [Kind!]! z: Int } input In { c: Int = 1 } enum Kind { X }")
    )

    found = breaches(contract, types_in(parse(ours)), {"Query": {"a"}})

    assert len(found) == 1
    assert breach in found[0]


def test_an_extension_is_no_breach() -> None:
    contract = types_in(parse("type Query { a: Kind } scalar Date enum Kind { X }"))
    ours = types_in(parse("type Query { a(b: Int, c: Int! = 1): Kind, d: Int! } enum Kind { X Y }"))

    assert breaches(contract, ours, {"Query": {"a"}}) == []
