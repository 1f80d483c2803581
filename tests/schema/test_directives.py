"""What fields cost, how long lists get and answers keep, as the printed schema says it."""

import strawberry
from graphql import (
    GraphQLSchema,
    build_schema,
    get_directive_values,
    lexicographic_sort_schema,
    print_schema,
    validate_schema,
)

from schema.build import graphql_schema, sdl
from schema.cache_hints import CacheControl
from schema.directives import Cost, ListSize, applied, with_applied
from schema.fields import field


def fields_of(schema: GraphQLSchema) -> dict[str, object]:
    """Every field of an output or input type, by `Type.field`."""
    return {
        f"{type_name}.{name}": each
        for type_name, named in schema.type_map.items()
        if not type_name.startswith("__")
        for name, each in (getattr(named, "fields", None) or {}).items()
    }


def test_the_printed_schema_says_what_the_code_says() -> None:
    schema, read = graphql_schema(), build_schema(sdl())
    named = [read.get_directive(name) for name in ("cost", "listSize", "cacheControl")]
    directives = [one for one in named if one is not None]
    assert len(directives) == len(named)
    assert validate_schema(read) == []

    printed = {
        name: [
            get_directive_values(one, each.ast_node)  # type: ignore[attr-defined]
            for one in directives
        ]
        for name, each in fields_of(read).items()
    }

    for name, each in fields_of(schema).items():
        expected: dict[type, dict[str, object]] = {}
        for one in applied(each):  # type: ignore[arg-type]
            if isinstance(one, CacheControl):
                expected[CacheControl] = {"maxAge": one.max_age}
                continue
            expected[type(one)] = (
                {"weight": one.weight}
                if isinstance(one, Cost)
                else {
                    key: value
                    for key, value in (
                        ("assumedSize", one.assumed_size),
                        ("slicingArguments", one.slicing_arguments),
                        ("sizedFields", one.sized_fields),
                        ("requireOneSlicingArgument", True),
                    )
                    if value is not strawberry.UNSET
                }
            )
        kinds = (Cost, ListSize, CacheControl)
        assert printed[name] == [expected.get(kind) for kind in kinds], name
    assert any(any(values) for values in printed.values())


def test_the_directives_are_those_of_the_cost_specification() -> None:
    cost, list_size = (graphql_schema().get_directive(name) for name in ("cost", "listSize"))
    assert cost is not None
    assert list_size is not None

    assert {name: str(each.type) for name, each in cost.args.items()} == {"weight": "String!"}
    assert {name: str(each.type) for name, each in list_size.args.items()} == {
        "assumedSize": "Int",
        "slicingArguments": "[String!]",
        "sizedFields": "[String!]",
        "requireOneSlicingArgument": "Boolean",
    }
    assert "requireOneSlicingArgument: Boolean = true" in sdl()
    for directive in (cost, list_size):
        texts = [directive.description, *(one.description for one in directive.args.values())]
        assert all(text and text.endswith(".") for text in texts)


def test_what_is_printed_of_a_field_stays_as_it_was_but_for_its_directives() -> None:
    @strawberry.input
    class Sent:
        plain: int
        """Defaults stand before directives."""
        many: list[int] = strawberry.field(
            default_factory=lambda: [1, 2], directives=[Cost(weight="0.5")]
        )

    @strawberry.type
    class Query:
        old: str = strawberry.field(
            description="A field.", deprecation_reason="Gone.", directives=[Cost(weight="2")]
        )

        @field("Some.", directives=[ListSize(assumed_size=3, require_one_slicing_argument=False)])
        def some(self, sent: Sent) -> list[str]:
            return [str(one) for one in sent.many]

    schema = lexicographic_sort_schema(strawberry.Schema(Query)._schema)

    printed = with_applied(schema, print_schema(schema))

    assert printed.count("@") == print_schema(schema).count("@") + 3
    assert '  old: String! @cost(weight: "2") @deprecated(reason: "Gone.")' in printed
    assert (
        "  some(sent: Sent!): [String!]!"
        " @listSize(assumedSize: 3, requireOneSlicingArgument: false)" in printed
    )
    assert '  many: [Int!]! = [1, 2] @cost(weight: "0.5")' in printed
    assert "  plain: Int!\n" in printed
    build_schema(printed)
