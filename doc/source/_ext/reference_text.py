# SPDX-License-Identifier: Apache-2.0
"""The text of the reference pages, made of what the code has: structs, enumerations, exceptions, schemas.

Without Sphinx: functions return reStructuredText. What a schema says of a field is its `description`.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec.inspect as mi
from struct_fields import STATES, Field, fields_of, member_texts, split_unit, split_way_out, struct_type

from tracker_worker import exceptions
from tracker_worker.core.replies import UnknownMethod, UnknownVersion, answer_to, parked_reply
from tracker_worker.domain import commands, fields, objects
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.errors import BadMessage, ErrorCode, Refusal
from tracker_worker.domain.flavors import Flavor
from tracker_worker.worker.metrics import FAMILIES, PREFIX, Scrape

DOC = Path(__file__).resolve().parents[2]
SAMPLES = DOC / "notification_samples"
SCHEMAS = SAMPLES / "schemas"
NODE_VIEW = DOC / "reply_schemas" / "NodeView.json"

_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_NEXT_TYPE = re.compile(r" compute_node\.[a-z.]+: ")
_NOT_PARKED = {
    ErrorCode.NODE_CONFLICT: "NodeConflict",
    ErrorCode.RESERVE_TOO_LARGE: "",
    ErrorCode.LEDGER_BROKEN: "NodeBroken",
    ErrorCode.NOTIFICATION_TOO_LARGE: "",
    ErrorCode.NOTIFICATION_REFUSED: "",
}
"""Codes with which no event is parked, and the exception that a call gets."""
_OSLO_MESSAGINGS: dict[type, str] = {UnknownMethod: "NoSuchMethod", UnknownVersion: "UnsupportedVersion"}
"""Exceptions of oslo.messaging's own, as `bus.reply_errors` raises them."""


# Tables -----------------------------------------------------------------------------------------------------


def literal(text: str) -> str:
    """Return a text of the code as reStructuredText: its `words` are literals."""
    return _CODE.sub(r"``\1``", text)


def table(header: Iterable[str], widths: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table. A row that has no cells is left out."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (list(header), *(list(each) for each in rows)):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return "\n".join([*lines, ""])


def field_table(rows: Iterable[Field]) -> str:
    """Return the table of the arguments of a command, or of the fields of an object."""
    return table(
        ("field", "type", "default", "unit", "meaning"),
        "20 28 10 10 32",
        ((f"``{r.name}``", r.type, r.default, r.unit, literal(r.meaning)) for r in rows),
    )


def section(title: str, label: str, *parts: str) -> str:
    """Return a section with a label that other pages can refer to."""
    return "\n".join([f".. _{label}:", "", title, "-" * len(title), "", *(f"{part}\n" for part in parts)])


def summary(cls: type) -> str:
    """Return the docstring of a class as reStructuredText."""
    return literal(inspect.cleandoc(cls.__doc__ or ""))


# Commands and replies ---------------------------------------------------------------------------------------


def outcomes_of(command: type) -> list[Outcome]:
    """Return the outcomes that a command can have."""
    if command is commands.GetNode:
        return []
    if command in get_args(commands.ClaimCommand):
        return [Outcome.GRANTED, Outcome.REFUSED]
    refusable = command in (commands.UpdateAvailableResource, commands.RemoveNode)
    return [Outcome.APPLIED, Outcome.IGNORED, *([Outcome.REFUSED] if refusable else [])]


def command_sections() -> str:
    """Return a section for each command: what it is for, its outcomes, its own arguments."""
    return "\n".join(_command(method, command) for method, command in commands.METHODS.items())


def _command(method: str, command: type) -> str:
    common = commands.Command.__struct_fields__
    own = [each for each in fields_of(command) if each.name not in common]
    is_call = method in commands.CLAIM_METHODS or command is commands.GetNode
    outcomes = ", ".join(f"``{each.value}``" for each in outcomes_of(command))
    answer = f"Outcomes: {outcomes}." if outcomes else "The reply is the node view."
    return section(
        method,
        f"command-{method}",
        summary(command),
        f"``TrackerAPI`` sends it as a {'call' if is_call else 'cast'}. {answer}",
        field_table(own) if own else "It has no arguments of its own.",
    )


def common_arguments() -> str:
    """Return the table of the arguments that every command has."""
    return field_table(fields_of(commands.Command))


def object_structs() -> list[type]:
    """Return the structs that commands carry, in the order in which they are first met."""
    found: dict[type, None] = {}
    for command in (commands.Command, *commands.METHODS.values()):
        for field in struct_type(command).fields:
            for cls in _structs_in(field.type):
                found.setdefault(cls)
    return list(found)


def _structs_in(kind: mi.Type) -> Iterator[type]:
    match kind:
        case mi.StructType(cls=cls):
            yield cls
            for field in kind.fields:
                yield from _structs_in(field.type)
        case mi.UnionType(types=types):
            for each in types:
                yield from _structs_in(each)
        case mi.ListType(item_type=item):
            yield from _structs_in(item)


def object_sections() -> str:
    """Return a section for each struct that commands carry, and for the states that they name."""
    structs = (
        section(cls.__name__, f"object-{cls.__name__}", summary(cls), field_table(fields_of(cls)))
        for cls in object_structs()
    )
    states = (
        section(title, title, ", ".join(f"``{value}``" for value in values) + ".")
        for title, values in STATES.items()
    )
    return "\n".join([*structs, *states])


def outcome_table() -> str:
    """Return the table of the outcomes."""
    rows = ((f"``{each.value}``", literal(member_texts(Outcome)[each.name])) for each in Outcome)
    return table(("outcome", "meaning"), "20 80", rows)


def claim_table() -> str:
    """Return the table of the fields of a claim, as replies, views and notifications show it."""
    return schema_table(payload_data("ClaimPayload"))


def node_view_table() -> str:
    """Return the table of the fields of the node view."""
    return schema_table(json.loads(NODE_VIEW.read_text()))


# Errors -----------------------------------------------------------------------------------------------------


def exception_classes() -> list[type[exceptions.TrackerWorkerException]]:
    """Return the exceptions that a caller may catch, in the order of the module."""
    classes = vars(exceptions).values()
    base = exceptions.TrackerWorkerException
    return [each for each in classes if isinstance(each, type) and issubclass(each, base)]


def exception_table() -> str:
    """Return the table of the exceptions: code, what happened, the way out."""
    rows = (
        (f"``{each.__name__}``", f"``{each.code}``", *map(literal, split_way_out(each.__doc__ or "")))
        for each in exception_classes()
    )
    return table(("exception", "code", "what happened", "way out"), "22 22 28 28", rows)


def exception_of(code: ErrorCode) -> str:
    """Return the name of the exception that a call gets for a code, empty where no call gets one."""
    if code in _NOT_PARKED:
        return _NOT_PARKED[code]
    kind = type(answer_to("update_usage", "1.0", parked_reply(BadMessage(code, "$", ""))))
    return _OSLO_MESSAGINGS.get(kind, kind.__name__)


def code_table() -> str:
    """Return the table of the error codes: what happened, the way out, the exception of a call."""
    texts = member_texts(ErrorCode)
    rows = (
        (f"``{code.value}``", *map(literal, split_way_out(texts[code.name])), _name(exception_of(code)))
        for code in ErrorCode
    )
    return table(("code", "what happened", "way out", "exception of a call"), "20 32 32 16", rows)


def _name(exception: str) -> str:
    return f"``{exception}``" if exception else "none"


def refusal_table() -> str:
    """Return the table of the codes of refusals."""
    texts = member_texts(Refusal)
    rows = ((f"``{each.value}``", *map(literal, split_way_out(texts[each.name]))) for each in Refusal)
    return table(("code", "what happened", "way out"), "28 36 36", rows)


# Notifications ----------------------------------------------------------------------------------------------


def event_types() -> dict[str, dict[str, Any]]:
    """Return the sample of each event type."""
    samples = (json.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.json")))
    return {each["event_type"]: each for each in samples}


def schema_fields(schema: Mapping[str, Any], path: str = "") -> Iterator[Field]:
    """Yield the fields of a JSON schema's object, and of the objects within, by their paths."""
    for name, each in schema.get("properties", {}).items():
        meaning, unit = split_unit(each.get("description", ""))
        types = _types(each)
        default = "always" if name in schema.get("required", ()) else "if set"
        yield Field(path + name, schema_words(each), default, unit, meaning, bool(types & _NUMBERS))
        yield from schema_fields(each, f"{path}{name}.")
        yield from schema_fields(each.get("items", {}), f"{path}{name}[].")


_NUMBERS = frozenset(("integer", "number"))


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types of a value, or of what a list holds."""
    if "items" in schema:
        return _types(schema["items"])
    types = schema.get("type", ())
    return frozenset([types] if isinstance(types, str) else types)


def schema_words(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema allows in words."""
    if "$ref" in schema:
        name = schema["$ref"].removesuffix(".json")
        return f":ref:`payload-{name}`"
    if "anyOf" in schema:
        return " or ".join(schema_words(each) for each in schema["anyOf"])
    if "enum" in schema:
        values = schema["enum"]
        is_code = values == [code.value for code in ErrorCode]
        return ":ref:`an error code <error-codes>`" if is_code else " | ".join(f"``{v}``" for v in values)
    types = schema["type"]
    words = types if isinstance(types, str) else " or ".join(types)
    return f"list of {schema_words(schema['items'])}" if words == "array" else words


def schema_table(schema: Mapping[str, Any]) -> str:
    """Return the table of the fields of a JSON schema's object."""
    return table(
        ("field", "type", "there", "unit", "meaning"),
        "28 22 8 10 32",
        ((f"``{r.name}``", r.type, r.default, r.unit, literal(r.meaning)) for r in schema_fields(schema)),
    )


def payload_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of a payload class."""
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return schema


def payload_data(name: str) -> dict[str, Any]:
    """Return the part of a payload's schema that its fields are in."""
    data: dict[str, Any] = payload_schema(name)["properties"]["nova_object.data"]
    return data


def nested_payloads() -> list[str]:
    """Return the names of the payload classes that are parts of others."""
    top = {sample["payload"]["nova_object.name"] for sample in event_types().values()}
    return sorted(path.stem for path in SCHEMAS.glob("*.json") if path.stem not in top)


def notification_sections() -> str:
    """Return a section for each event type, with its fields and its sample."""
    return "\n".join(_notification(*each) for each in event_types().items())


def _notification(event_type: str, sample: Mapping[str, Any]) -> str:
    payload = sample["payload"]
    name, version = payload["nova_object.name"], payload["nova_object.version"]
    return section(
        event_type,
        f"notification-{event_type}",
        _meaning(event_type, payload_schema(name)["description"]),
        f"Priority {sample['priority']}. Payload ``{name}``, version {version}.",
        schema_table(payload_data(name)),
        f".. literalinclude:: /../notification_samples/{event_type}.json\n   :language: json",
    )


def _meaning(event_type: str, description: str) -> str:
    """Return what a schema's description says of one event type: the text behind its name and a colon, up to
    the next type.
    """
    _, _, meaning = description.partition(f"{event_type}: ")
    meaning = _NEXT_TYPE.split(meaning)[0]
    return meaning[:1].upper() + meaning[1:]


def payload_sections() -> str:
    """Return a section for each payload class that is a part of others."""
    return "\n".join(
        section(name, f"payload-{name}", literal(payload_schema(name)["description"]), _payload(name))
        for name in nested_payloads()
    )


def _payload(name: str) -> str:
    version = payload_schema(name)["properties"]["nova_object.version"]["const"]
    return f"Version {version}.\n\n{schema_table(payload_data(name))}"


def metric_table() -> str:
    """Return the table of the families of metrics, under the names that they are queried by."""
    suffixes = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    rows = (
        (
            f"``{PREFIX}{each.name}{suffixes[each.kind]}``",
            each.kind,
            ", ".join(each.labels),
            literal(each.text),
        )
        for each in FAMILIES
    )
    return table(("metric", "type", "labels", "meaning"), "40 12 14 34", rows)


PARTS: dict[str, Callable[[], str]] = {
    "commands": command_sections,
    "common-arguments": common_arguments,
    "objects": object_sections,
    "outcomes": outcome_table,
    "claim": claim_table,
    "node-view": node_view_table,
    "exceptions": exception_table,
    "codes": code_table,
    "refusals": refusal_table,
    "notifications": notification_sections,
    "payloads": payload_sections,
    "metrics": metric_table,
}
"""What the directive `reference` takes, and what stands in its place."""

SOURCES = [
    *SAMPLES.rglob("*.json"),
    NODE_VIEW,
    *(
        Path(inspect.getfile(each))
        for each in (commands, exceptions, fields, objects, ErrorCode, Flavor, Outcome, Scrape)
    ),
]
"""The files whose change changes a page."""

_DIRECTIVE = re.compile(r"^( *)\.\. reference:: (\S+)$", re.MULTILINE)


def expanded(page: str) -> str:
    """Return the text of a page with its directives replaced by what they stand for."""
    return _DIRECTIVE.sub(lambda found: textwrap.indent(PARTS[found[2]](), found[1]), page)
