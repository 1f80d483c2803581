"""Executing operations: graphql-core's executor, with a short way for what there is much of.

Two things come in thousands: the entries of lists in answers, and the input objects of lists in
variables. Both are done here in bulk, as long as nothing about them is out of the ordinary.
Whatever is, is handed to graphql-core as a whole and untouched, so that results, errors and their
order are always graphql-core's own. The short way is all or nothing, for one list of the answer
and for the variables of one operation: it gives what graphql-core would give, or nothing.

Lists of the answer (`lists`) it does not take, nor lists of objects that hold one of these:

- values other than exact `list`s and `tuple`s: generators, async iterables, sets, subclasses;
- interfaces and unions, and object types with an `is_type_of` (with Strawberry, those that
  implement an interface);
- fields with a resolver, a permission, an extension or another default resolver than `getattr`;
- objects that compute what is read: properties and other descriptors, `__getattr__`, dictionaries,
  and classes that are exceptions or awaitable. Slots, msgspec structs, named tuples and plain
  instance attributes are read, which runs nobody's code; so nothing with an effect is done twice;
- a null where none may be, an attribute that is missing, an item that is an exception or awaitable;
- leaves that are no plain values (`_INERT`) or members of the type's own enum: `Undefined`,
  subclasses of `str` and `int`, numbers of other libraries, enums with an equality of their own;
- what a serializer refuses. Serializers run again then, in graphql-core: they must have no effect;
- `@stream` and `@defer`, and anything at all of an executor with middleware.

Aliases, merged fields, fragments, `__typename`, `@skip` and `@include` are no obstacle: which
fields a list has is found out by graphql-core, once per execution.

Variables (`inputs`) it does not take:

- values that do not fit, with all other variables of the operation: graphql-core coerces them
  once more for its errors;
- one by one, those left out, of types that contain themselves (`EventFilter`), of `@oneOf` types
  and of types with an `out_type`: graphql-core coerces these, and the short way the others;
- values that JSON has not: subclasses of `dict` and `list`, `Undefined`; a single value in the
  place of a list.
"""

from schema.execution.executor import FastExecutor, build_executor, source_events
from schema.execution.inputs import Variables, coerce_variables

__all__ = ["FastExecutor", "Variables", "build_executor", "coerce_variables", "source_events"]
