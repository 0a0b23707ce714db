# SPDX-License-Identifier: Apache-2.0
"""Option types that oslo.config lacks."""

import math
from typing import Any

from oslo_config import types


class FiniteFloat(types.Float):
    """A float with bounds that rejects NaN: comparisons of NaN with the bounds are false."""

    def __call__(self, value: object) -> int | float | None:
        """Return the number. Raises ValueError."""
        number = super().__call__(value)
        if number is not None and math.isnan(number):
            raise ValueError("must be a number")
        return number


class AscendingRange(types.Range):
    """A number or an ascending range of numbers."""

    def __call__(self, value: object) -> Any:
        """Return the range. Raises ValueError."""
        numbers = super().__call__(value)
        if len(numbers) > 1 and numbers[0] > numbers[-1]:
            raise ValueError(f"{value}: write {numbers[-1]}-{numbers[0]}")
        return numbers
