"""From a document to what it costs: each selection worked out once for where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    InlineFragmentNode,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_non_null_type,
)

from schema.cost_plan import (
    MOST,
    POINT,
    Alternatives,
    Condition,
    Conditional,
    Field,
    Number,
    Part,
    Selection,
    Variables,
)
from schema.directives import ListSize
from schema.estimates import Reader, entries, reader_of
from schema.prices import Prices, is_list, item_of, list_size_of, weight_of


@dataclass(frozen=True, slots=True)
class _Call:
    """A field as the document asks for it."""

    definition: GraphQLField
    node: FieldNode

    def reads(self, path: str) -> Reader | None:
        """Reads the argument of a path; None where the field has no such argument."""
        if path.partition(".")[0] not in self.definition.args:
            return None
        return reader_of(self.definition, self.node, path)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a selection stands.

    `parent` is the field that answers with the object if it sizes lists of it, `around` the
    nearest field that has arguments. In objects that may be of other types, too, and below them it
    isn't certain what is answered.
    """

    parent: _Call | None = None
    around: _Call | None = None
    is_certain: bool = True


@dataclass(slots=True)
class Planner:
    """Plans the selections of one document, which must be valid."""

    prices: Prices
    fragments: Mapping[str, FragmentDefinitionNode]
    _known: dict[tuple[int | str, ...], Selection] = field(default_factory=dict)

    def selection(
        self, node: SelectionSetNode, type_: GraphQLObjectType, place: _Place = _Place()
    ) -> Selection:
        """What a selection costs for each object of the type."""
        # By identity: to compare nodes is to compare the whole text below them.
        calls = [one for call in (place.parent, place.around) for one in _identity(call)]
        key: tuple[int | str, ...] = (id(node), type_.name, place.is_certain, *calls)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._selection(node, type_, place)
        return known

    def _selection(
        self, node: SelectionSetNode, type_: GraphQLObjectType, place: _Place
    ) -> Selection:
        constant = 0
        parts: list[Part] = []
        left: list[SelectionNode] = list(node.selections)
        while left:
            selection = left.pop()
            conditions = _conditions(selection.directives or ())
            if conditions is None or not self._applies(selection, type_):
                continue
            if isinstance(selection, InlineFragmentNode) and not conditions:
                # Without recursion, as they may be nested deep for nothing.
                left += selection.selection_set.selections
                continue
            part = self._part(selection, type_, place)
            if part.fixed is None or (part.fixed and conditions):
                parts.append(Conditional(conditions, part) if conditions else part)
            else:
                constant = min(constant + part.fixed, MOST)
        return Selection(constant, parts)

    def _applies(self, node: SelectionNode, type_: GraphQLObjectType) -> bool:
        if isinstance(node, FieldNode):
            return True
        fragment = self.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
        assert isinstance(fragment, (FragmentDefinitionNode, InlineFragmentNode))
        if fragment.type_condition is None:
            return True
        schema = self.prices.schema
        wanted = schema.type_map[fragment.type_condition.name.value]
        return wanted is type_ or (is_abstract_type(wanted) and schema.is_sub_type(wanted, type_))

    def _part(self, node: SelectionNode, type_: GraphQLObjectType, place: _Place) -> Part:
        if isinstance(node, FieldNode):
            return self._field(node, type_, place)
        if isinstance(node, FragmentSpreadNode):
            return self.selection(self.fragments[node.name.value].selection_set, type_, place)
        assert isinstance(node, InlineFragmentNode)
        return self.selection(node.selection_set, type_, place)

    def _field(self, node: FieldNode, type_: GraphQLObjectType, place: _Place) -> Part:
        definition = self.prices.schema.get_field(type_, node.name.value)
        assert definition is not None
        call = _Call(definition, node)
        part = Field(
            key=node.alias.value if node.alias else node.name.value,
            weight=weight_of(definition),
            inputs=self._inputs(call),
        )
        if node.selection_set is not None:
            sizes = list_size_of(definition)
            # None where it doesn't matter, so that the fields of an interface can be planned once.
            parent = call if sizes and sizes.sized_fields else None
            around = call if definition.args else place.around
            named = get_named_type(definition.type)
            inside = _Place(parent, around, place.is_certain)
            part.inner = self._inner(named, node.selection_set, inside)
            if is_list(definition.type):
                part.size = self._size(call, type_, place)
                part.has_gaps = not is_non_null_type(item_of(definition.type))
        if not part.inputs and (place.is_certain or part.costs_nothing):
            part.fixed = self._fixed(part, definition)
        return part

    def _fixed(self, part: Field, definition: GraphQLField) -> int | None:
        """What a field costs that is there for certain, if neither arguments nor answer matter."""
        if part.inner is None:
            return part.weight
        if part.size is None and part.inner.fixed is not None and is_non_null_type(definition.type):
            return min(part.weight + POINT + part.inner.fixed, MOST)
        return None

    def _inner(self, named: GraphQLNamedType, node: SelectionSetNode, place: _Place) -> Part:
        if isinstance(named, GraphQLObjectType):
            return self.selection(node, named, place)
        assert is_abstract_type(named)
        unsure = _Place(place.parent, place.around, is_certain=False)
        types = self.prices.schema.get_possible_types(named)
        return Alternatives([self.selection(node, type_, unsure) for type_ in types])

    def _size(self, call: _Call, type_: GraphQLObjectType, place: _Place) -> Number:
        name = call.node.name.value
        if type_.name.startswith("__"):
            size = self.prices.size_in_introspection(name)
            return lambda _: size
        own = list_size_of(call.definition)
        if own is not None and not own.sized_fields:
            return _number(own, [call, place.around])
        assert place.parent is not None  # the schema was looked through for it
        size_of_parent = list_size_of(place.parent.definition)
        assert size_of_parent is not None
        return _number(size_of_parent, [place.parent, place.around])

    def _inputs(self, call: _Call) -> Sequence[Number]:
        return [
            _weighted(read, weight)
            for path, weight in self.prices.inputs(call.definition)
            if (read := call.reads(path))
        ]


def _identity(call: _Call | None) -> tuple[int, int]:
    return (id(call.node), id(call.definition)) if call else (0, 0)


def _conditions(directives: Sequence[DirectiveNode]) -> list[Condition] | None:
    """Conditions on variables; None where the document itself says that something is left out."""
    conditions = []
    for directive in directives:
        if (name := directive.name.value) in ("skip", "include"):
            wanted = name == "include"
            value = directive.arguments[0].value if directive.arguments else None
            if isinstance(value, VariableNode):
                conditions.append(Condition(value.name.value, wanted))
            elif isinstance(value, BooleanValueNode) and value.value is not wanted:
                return None
    return conditions


def _number(size: ListSize, calls: Sequence[_Call | None]) -> Number:
    """The number of entries by the slicing arguments, each from the first field that has it."""
    most = size.assumed_size
    assert most is not None  # the schema was looked through for it
    slices = [
        (path, read, call.reads("interval") or _nothing)
        for path in size.slicing_arguments or ()
        for call in [next((one for one in calls if one and one.reads(path)), None)]
        if call and (read := call.reads(path))
    ]

    def number(variables: Variables) -> int:
        told = [
            count
            for path, read, interval in slices
            if (count := entries(path, read(variables), interval(variables))) is not None
        ]
        return max(0, min(max(told), most)) if told else most

    return number


def _weighted(read: Reader, weight: int) -> Number:
    return lambda variables: weight * (entries("", read(variables), None) or 0)


def _nothing(_: Variables) -> None:
    return None
