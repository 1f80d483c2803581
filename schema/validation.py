"""Whether a document fits the schema, found out in bounded time."""

from __future__ import annotations

import re

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    specified_rules,
    validate,
)

from resolvers.errors import Code
from schema.presenting import with_code

# A text with more mistakes than this is not somebody's slip; finding all of them is work.
MAX_MISTAKES = 10
# Steps in comparing fields that are to be merged, about 3 microseconds each. Twenty fragments that
# all ask for the same ten fields in one place stay below it.
MAX_COMPARISONS = 10_000
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


def validate_document(
    schema: GraphQLSchema, document: DocumentNode, *, hide_suggestions: bool
) -> list[GraphQLError]:
    """Where the document does not fit the schema; each with the code GRAPHQL_VALIDATION_FAILED.

    Take only documents that `schema.limits` has nothing against.
    """
    errors = validate(schema, document, RULES, MAX_MISTAKES, hide_suggestions)
    return [with_code(_about_the_value(error), Code.GRAPHQL_VALIDATION_FAILED) for error in errors]


def _about_the_value(error: GraphQLError) -> GraphQLError:
    error.message = _WHAT_PYTHON_SAYS.sub(", found", error.message)
    return error
