# SPDX-License-Identifier: Apache-2.0
"""The fields of structs and the members of enumerations, with what their source says of them.

Meaning and unit stand beside a field, as a comment `#: meaning [unit]`, or as a docstring behind it.
"""

import ast
import inspect
import json
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import get_args

import msgspec.inspect as mi
from msgspec import NODEFAULT, Struct

from tracker_worker.domain import fields

_UNIT = re.compile(r"\s*\[([^\]]+)\]$")
_POWERS: dict[float, str] = {2**31 - 1: "2^31-1", 2**53: "2^53", 2**63 - 1: "2^63-1", -(2**53): "-2^53"}
_TEXTS = {
    fields.HOST_NAME: "host name",
    fields.HOST_NAME_OR_EMPTY: "host name or empty",
    fields.NAME: "name",
    fields.LABEL: "label",
    None: "text",
}
STATES = {"vm states": get_args(fields.VmState), "task states": get_args(fields.TaskState)}
"""Lists of values that are too long for a table, by the title of their section."""


@dataclass(frozen=True)
class Field:
    """A row of a table: a field's name, its type in words, its default, its unit and its meaning."""

    name: str
    type: str
    default: str
    unit: str
    meaning: str
    is_amount: bool = False


@cache
def member_texts(cls: type) -> dict[str, str]:
    """Return the documentation of a class's own fields or members: `#:` comments, else docstrings."""
    lines, _ = inspect.getsourcelines(cls)
    source = textwrap.dedent("".join(lines))
    lines = source.splitlines()
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                texts[name] = _comment(lines, statement) or _docstring(following)
    return texts


def _comment(lines: list[str], statement: ast.stmt) -> str:
    assert statement.end_lineno is not None
    _, _, trailing = lines[statement.end_lineno - 1].partition("  #: ")
    if trailing:
        return trailing
    above: list[str] = []
    for line in reversed(lines[: statement.lineno - 1]):
        if not line.strip().startswith("#: "):
            break
        above.insert(0, line.strip().removeprefix("#: "))
    return " ".join(above)


def _docstring(following: ast.stmt | None) -> str:
    match following:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return ""


def text_of(cls: type, name: str) -> str:
    """Return the documentation of a field, which may be inherited; empty where there is none."""
    structs = (each for each in cls.__mro__ if issubclass(each, Struct) and each is not Struct)
    return next(filter(None, (member_texts(each).get(name) for each in structs)), "")


def split_unit(text: str) -> tuple[str, str]:
    """Split `meaning [unit]`; the unit is empty where there is none."""
    found = _UNIT.search(text)
    return (text[: found.start()], found[1]) if found else (text, "")


def split_way_out(text: str) -> tuple[str, str]:
    """Split a docstring into what happened and the way out."""
    meaning, _, way_out = text.partition("Way out: ")
    way_out = " ".join(way_out.split())
    return " ".join(meaning.split()), way_out[:1].upper() + way_out[1:]


def type_words(kind: mi.Type) -> str:
    """Return a type of msgspec in words, with its bounds."""
    if isinstance(kind, mi.UnionType):
        return _union_words(kind)
    match kind:
        case mi.IntType() | mi.FloatType():
            return _number_words("integer" if isinstance(kind, mi.IntType) else "number", kind)
        case mi.StrType():
            most = f" (at most {kind.max_length:,} characters)" if kind.max_length else ""
            return _TEXTS[kind.pattern] + most
        case mi.LiteralType(values=values):
            titles = [title for title, states in STATES.items() if set(states) == set(values)]
            return f"one of the :ref:`{titles[0]}`" if titles else " | ".join(f"``{v}``" for v in values)
        case mi.EnumType(cls=cls):
            return " | ".join(f"``{member.value}``" for member in cls)
        case mi.ListType(item_type=item, max_length=most):
            bound = f" (at most {most:,})" if most else ""
            return f"list{bound} of {type_words(item)}"
        case mi.DictType(key_type=key, value_type=value):
            return f"object of {type_words(value)} by {type_words(key)}"
        case mi.StructType(cls=cls):
            return f":ref:`object-{cls.__name__}`"
        case _:
            return _PLAIN[type(kind)]


_PLAIN: dict[type[mi.Type], str] = {
    mi.BoolType: "boolean",
    mi.DateTimeType: "time",
    mi.NoneType: "null",
    mi.AnyType: "any",
}


def _union_words(kind: mi.UnionType) -> str:
    types = [each for each in kind.types if not isinstance(each, mi.NoneType)]
    if any(isinstance(each, mi.FloatType) for each in types):
        # Integers and floats with the same bounds are one thing in JSON.
        types = [each for each in types if not isinstance(each, mi.IntType)]
    return " or ".join(type_words(each) for each in types)


def _number_words(word: str, kind: mi.IntType | mi.FloatType) -> str:
    bounds = (kind.ge, kind.le)
    if None in bounds:
        return word
    least, most = (_POWERS.get(bound) or f"{bound:,.0f}" for bound in bounds if bound is not None)
    return f"{word}, {least} to {most}"


def is_amount(kind: mi.Type) -> bool:
    """Whether a field is a number, or a list or an object of numbers: it needs a unit."""
    match kind:
        case mi.IntType() | mi.FloatType() | mi.DateTimeType():
            return True
        case mi.UnionType(types=types):
            return not any(isinstance(each, mi.StrType) for each in types) and any(map(is_amount, types))
        case mi.ListType(item_type=item):
            return is_amount(item)
        case mi.DictType(value_type=value):
            return is_amount(value)
        case _:
            return False


def fields_of(cls: type) -> list[Field]:
    """Return the fields of a struct, in order."""
    return [_struct_field(cls, each) for each in struct_type(cls).fields]


def struct_type(cls: type) -> mi.StructType:
    """Return what msgspec knows of a struct."""
    kind = mi.type_info(cls)
    assert isinstance(kind, mi.StructType)
    return kind


def _struct_field(cls: type, field: mi.Field) -> Field:
    meaning, unit = split_unit(text_of(cls, field.name))
    return Field(field.name, type_words(field.type), _default(field), unit, meaning, is_amount(field.type))


def _default(field: mi.Field) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "absent"
    return "empty" if field.default is NODEFAULT else f"``{json.dumps(field.default)}``"
