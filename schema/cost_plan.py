"""What an operation costs, as a tree of sums that is worked out once for its document.

All numbers are thousandths of a point and stop growing at `MOST`. A part that two fields have in
common, such as a fragment, is one object: the tree is as large as the document, not as what the
document stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Variables: TypeAlias = Mapping[str, Any]
# Computes a number from the coerced variables: of entries, or of thousandths.
Number: TypeAlias = Callable[[Variables], int]

POINT = 1_000
# A trillion points; nothing may cost as much.
MOST = 10**15


class Part(Protocol):
    """A part of a selection of fields.

    `fixed` is what it costs whatever the variables and the answer are; None where they matter.
    """

    fixed: int | None

    def requested(self, variables: Variables) -> int:
        """What it costs at most, by the arguments."""

    def actual(self, data: Mapping[str, Any], variables: Variables) -> int:
        """What it cost, by the object that was answered."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`@include(if: $variable)`, or with `wanted` False `@skip`."""

    variable: str
    wanted: bool

    def holds(self, variables: Variables) -> bool:
        """Whether what carries the directive is asked for."""
        return bool(variables.get(self.variable)) is self.wanted


@dataclass(slots=True)
class Selection:
    """Fields of an object: a constant, and parts of which some depend on variables."""

    constant: int
    parts: Sequence[Part]
    fixed: int | None = None

    def __post_init__(self) -> None:
        self.fixed = None if self.parts else self.constant

    def requested(self, variables: Variables) -> int:
        """See `Part`."""
        total = self.constant
        for part in self.parts:
            total += part.requested(variables)
        return min(total, MOST)

    def actual(self, data: Mapping[str, Any], variables: Variables) -> int:
        """See `Part`."""
        total = self.constant
        for part in self.parts:
            total += part.actual(data, variables)
        return min(total, MOST)


@dataclass(slots=True)
class Alternatives:
    """Fields of an object of one of several types; what the dearest of them costs."""

    options: Sequence[Part]
    fixed: int | None = None

    def __post_init__(self) -> None:
        self.options = self.options or [Selection(0, ())]
        if all(option.fixed == 0 for option in self.options):
            self.fixed = 0

    def requested(self, variables: Variables) -> int:
        """See `Part`."""
        return max(option.requested(variables) for option in self.options)

    def actual(self, data: Mapping[str, Any], variables: Variables) -> int:
        """See `Part`."""
        return max(option.actual(data, variables) for option in self.options)


@dataclass(slots=True)
class Conditional:
    """A part that is asked for under conditions on variables."""

    conditions: Sequence[Condition]
    part: Part
    fixed: int | None = None

    def requested(self, variables: Variables) -> int:
        """See `Part`."""
        return self.part.requested(variables) if self._is_asked(variables) else 0

    def actual(self, data: Mapping[str, Any], variables: Variables) -> int:
        """See `Part`."""
        return self.part.actual(data, variables) if self._is_asked(variables) else 0

    def _is_asked(self, variables: Variables) -> bool:
        return all(condition.holds(variables) for condition in self.conditions)


@dataclass(slots=True)
class Field:
    """A field that answers with objects, or whose arguments cost something.

    `size` is the most objects there can be, `inner` the fields of each; `inner` is None for
    scalars and enums. `key` is its name in the answer. A list with gaps may hold null.
    """

    key: str
    weight: int
    inputs: Sequence[Number] = ()
    size: Number | None = None
    inner: Part | None = None
    has_gaps: bool = False
    fixed: int | None = None

    @property
    def costs_nothing(self) -> bool:
        """It is a scalar or an enum without a weight."""
        return self.inner is None and not self.weight and not self.inputs

    def requested(self, variables: Variables) -> int:
        """See `Part`."""
        total = self._own(variables)
        if self.inner is not None:
            each = POINT + self.inner.requested(variables)
            total += each if self.size is None else each * self.size(variables)
        return min(total, MOST)

    def actual(self, data: Mapping[str, Any], variables: Variables) -> int:
        """See `Part`; a field that has no answer costs nothing."""
        if self.key not in data:
            return 0
        total = self._own(variables)
        if self.inner is not None:
            total += self._objects(self.inner, data[self.key], variables)
        return min(total, MOST)

    def _own(self, variables: Variables) -> int:
        total = self.weight
        for number in self.inputs:
            total += number(variables)
        return total

    def _objects(self, inner: Part, value: Any, variables: Variables) -> int:
        if value is None:
            return 0
        if self.size is None:
            return POINT + inner.actual(value, variables)
        if inner.fixed is not None:
            count = len(value) - (value.count(None) if self.has_gaps else 0)
            return count * (POINT + inner.fixed)
        objects = [one for one in value if one is not None]
        return len(objects) * POINT + sum(inner.actual(one, variables) for one in objects)
