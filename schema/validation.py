"""Whether a document fits the schema, found out in bounded time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from graphql import (
    SKIP,
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    Node,
    OverlappingFieldsCanBeMergedRule,
    TypeInfo,
    ValidationContext,
    Visitor,
    assert_valid_schema,
    specified_rules,
)
from graphql.language.ast import QUERY_DOCUMENT_KEYS
from graphql.pyutils import RefMap
from graphql.validation.validate import FragmentNestingVisitor, ValidationAbortedError
from graphql.validation.validation_context import (
    NodeWithSelectionSet,
    VariableUsage,
    VariableUsageVisitor,
)

from resolvers.errors import Code
from schema.presenting import with_code

# A text with more mistakes than this is not somebody's slip; finding all of them is work.
MAX_MISTAKES = 10
# Steps in comparing fields that are to be merged, about two microseconds each. Fifteen fragments
# that all ask for the same ten fields in one place stay below it, and so do 48 with a field of
# their own each.
MAX_COMPARISONS = 3_500
# graphql-core quotes what Python says of a value, such as an Int of 5,000 digits.
_WHAT_PYTHON_SAYS = re.compile(r", but encountered error '.*?'; found", re.DOTALL)


class _BoundedOverlap(OverlappingFieldsCanBeMergedRule):
    """graphql-core's rule with a smaller budget, after which it gives the document up.

    Fields of the same name in one place are compared pair by pair, through all fragments. The
    rule's own budget takes a second and more; it can only be changed for the whole process.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MAX_COMPARISONS


RULES = tuple(
    _BoundedOverlap if rule is OverlappingFieldsCanBeMergedRule else rule
    for rule in specified_rules
)


# Half of all nodes are names, which say nothing that the node around them does not say; no rule
# looks at them, nor at descriptions.
_KEYS = {
    kind: tuple(key for key in keys if key not in ("alias", "description", "name"))
    for kind, keys in QUERY_DOCUMENT_KEYS.items()
}

_NO_FURTHER = (SKIP, False)
# What a visitor does at a node: with the node, its key, its parent, its path and what lies above.
_Step = Callable[..., object]
_Steps = tuple[list[tuple[int, _Step]], list[tuple[int, _Step]]]


class _Walk:
    """One way through a document for several visitors, as graphql-core's `visit` takes it.

    It changes nothing, and knows of no path: no rule asks for it. So it takes half of the time.
    """

    def __init__(self, type_info: TypeInfo, visitors: Sequence[Visitor]) -> None:
        self.type_info = type_info
        self.visitors = visitors
        # The places of visitors that want to see nothing of what is in the present node.
        self.skipping: set[int] = set()
        self._steps: dict[str, _Steps] = {}

    def through(self, node: Node, key: object, parent: object, above: list[object]) -> None:
        """Enter a node, go through all that is in it, and leave it."""
        self.type_info.enter(node)
        skipping = self.skipping
        skipped = self._enter(node, key, parent, above)
        if len(skipping) < len(self.visitors):
            # In one function, as each call on the way down counts towards the deepest there may be.
            height = len(above)
            if parent is not None:
                above.append(parent)
            for name in _KEYS.get(node.kind, ()):
                inner = getattr(node, name, None)
                if isinstance(inner, Node):
                    self.through(inner, name, node, above)
                elif inner:
                    above.append(node)
                    for number, one in enumerate(inner):
                        self.through(one, number, inner, above)
                    above.pop()
            del above[height:]
        for at, step in self._steps[node.kind][1]:
            if at not in skipping:
                step(node, key, parent, (), above)
        skipping.difference_update(skipped)
        self.type_info.leave(node)

    def _enter(self, node: Node, key: object, parent: object, above: list[object]) -> list[int]:
        """Which visitors want to see nothing of what is in the node."""
        enters, _ = self._steps.get(node.kind) or self._steps_of(node.kind)
        skipping = self.skipping
        skipped: list[int] = []
        for at, step in enters:
            if at not in skipping and step(node, key, parent, (), above) in _NO_FURTHER:
                skipping.add(at)
                skipped.append(at)
        return skipped

    def _steps_of(self, kind: str) -> _Steps:
        """What is done on entering nodes of a kind, and on leaving them."""
        steps: _Steps = ([], [])
        for at, visitor in enumerate(self.visitors):
            for one, all_of_them in zip(visitor.get_enter_leave_for_kind(kind), steps, strict=True):
                if one is not None:
                    all_of_them.append((at, one))
        self._steps[kind] = steps
        return steps


class _Context(ValidationContext):
    """graphql-core's context with less work.

    It walks through each operation and fragment a second time, for the types of their variables;
    and it knows nodes by their hashes, which are worked out from all that is in them.
    """

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, errors: _Errors, *, hide: bool
    ) -> None:
        self.type_info = TypeInfo(schema)
        super().__init__(schema, document, self.type_info, errors.add, hide)
        self._usages: RefMap[NodeWithSelectionSet, list[VariableUsage]] = RefMap()
        self._fragment_spreads = RefMap()  # type: ignore[assignment]
        self._recursive_variable_usages = RefMap()  # type: ignore[assignment]

    def get_variable_usages(self, node: NodeWithSelectionSet) -> list[VariableUsage]:
        """The variables in an operation or a fragment, those of its spreads left out."""
        found: list[VariableUsage] | None = self._usages.get(node)
        if found is None:
            found = self._usages[node] = self._find_usages(node) if _may_use(node) else []
        return found

    def _find_usages(self, node: NodeWithSelectionSet) -> list[VariableUsage]:
        fragment = node if isinstance(node, FragmentDefinitionNode) else None
        visitor = VariableUsageVisitor(self.type_info, fragment)
        _Walk(self.type_info, [visitor]).through(node, None, None, [])
        return visitor.usages


def _may_use(node: NodeWithSelectionSet) -> bool:
    """Whether there may be a variable in a node: not without its sign in the text."""
    at = node.loc
    return at is None or "$" in at.source.body[at.start : at.end]


class _Errors(list[GraphQLError]):
    """What is found, up to as many mistakes as are told at once."""

    def add(self, error: GraphQLError) -> None:
        """Keep one more mistake; raises `ValidationAbortedError` where there are too many."""
        if len(self) >= MAX_MISTAKES:
            raise ValidationAbortedError(
                "Too many validation errors, error limit reached. Validation aborted."
            )
        self.append(error)


def validate_document(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool
) -> list[GraphQLError]:
    """Where the document does not fit the schema; each with the code GRAPHQL_VALIDATION_FAILED.

    Take only documents that `schema.limits` has nothing against.
    """
    errors = _validate(schema, document, hide_suggestions=hide_suggestions)
    return [with_code(_about_the_value(error), Code.GRAPHQL_VALIDATION_FAILED) for error in errors]


def _validate(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool
) -> list[GraphQLError]:
    """What graphql-core's `validate` finds, in half of its time."""
    assert_valid_schema(schema)
    errors = _Errors()
    context = _Context(schema, document, errors, hide=hide_suggestions)
    fragments = {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }
    visitors: list[Visitor] = [FragmentNestingVisitor(fragments)] if fragments else []
    visitors += [rule(context) for rule in RULES]
    try:
        _Walk(context.type_info, visitors).through(document, None, None, [])
    except ValidationAbortedError as aborted:
        # Without the frames, which hold all that was worked out.
        aborted.__context__ = None
        errors.append(aborted.with_traceback(None))
    except RecursionError:
        errors.append(ValidationAbortedError("Validation aborted."))
    return errors


def _about_the_value(error: GraphQLError) -> GraphQLError:
    error.message = _WHAT_PYTHON_SAYS.sub(", found", error.message)
    return error
