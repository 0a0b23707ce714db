# SPDX-License-Identifier: Apache-2.0
"""The samples that other tests derive their messages from are valid and lack no field of a command."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect

from tests.samples import EXAMPLES, message
from tracker_worker.core.envelope import open_envelope, read_command
from tracker_worker.domain.commands import METHODS


def absent(shape: inspect.Type, value: Any, path: str) -> Iterator[str]:
    """The fields that a value could have and has not."""
    if isinstance(shape, inspect.UnionType):
        kinds: dict[type, type[inspect.Type]] = {dict: inspect.StructType, list: inspect.ListType}
        wanted = kinds.get(type(value))
        shape = next((t for t in shape.types if wanted and isinstance(t, wanted)), shape)
    if isinstance(shape, inspect.StructType):
        for field in shape.fields:
            if field.encode_name not in value:
                yield f"{path}.{field.encode_name}"
            else:
                name = field.encode_name
                yield from absent(field.type, value[name], f"{path}.{name}")
    elif isinstance(shape, inspect.ListType):
        for item in value:
            yield from absent(shape.item_type, item, f"{path}[]")


def test_every_method_has_an_example() -> None:
    assert EXAMPLES.keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_an_example_is_valid_and_has_every_field(method: str) -> None:
    command = read_command(open_envelope(message(method, EXAMPLES[method])))
    assert type(command) is METHODS[method]
    assert not list(absent(inspect.type_info(METHODS[method]), EXAMPLES[method], method))
