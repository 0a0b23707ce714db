# SPDX-License-Identifier: Apache-2.0
"""Conversion of stored JSON values to types, without the fields that the types lack."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")


def read_known(value: Any, wanted: type[T]) -> T:
    """Return a stored value as its type, without the fields that the type lacks.

    A newer version may have written such fields. Raises msgspec.ValidationError for any other mismatch.
    """
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return msgspec.convert(_known(value, _shape(wanted)), wanted)


def branch(value: Any, union: inspect.UnionType) -> inspect.Type:
    """Return the member of a union that has the JSON type of the value."""
    wanted: type[inspect.Type] = inspect.NoneType
    if isinstance(value, dict):
        wanted = inspect.StructType
    elif isinstance(value, list):
        wanted = inspect.ListType
    for member in union.types:
        if isinstance(member, wanted) or (isinstance(value, dict) and isinstance(member, inspect.DictType)):
            return member
    return union.types[0]


_shape: Callable[[Any], inspect.Type] = cache(inspect.type_info)


def _known(value: Any, shape: inspect.Type) -> Any:
    if isinstance(shape, inspect.UnionType):
        shape = branch(value, shape)
    match shape, value:
        case inspect.StructType(), dict():
            fields = {field.encode_name: field.type for field in shape.fields}
            return {key: _known(inner, fields[key]) for key, inner in value.items() if key in fields}
        case inspect.DictType(), dict():
            return {key: _known(inner, shape.value_type) for key, inner in value.items()}
        case ((inspect.ListType() | inspect.VarTupleType()), (list() | tuple())):
            return [_known(inner, shape.item_type) for inner in value]
        case _:
            return value
