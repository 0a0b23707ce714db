# SPDX-License-Identifier: Apache-2.0
"""Types of options that oslo.config does not have."""

import math

from oslo_config import types


class FiniteFloat(types.Float):
    """A float with bounds that is no NaN: every comparison with one is false, those of the bounds too."""

    def __call__(self, value: object) -> int | float | None:
        """Return the number. Raises ValueError."""
        number = super().__call__(value)
        if number is not None and math.isnan(number):
            raise ValueError("must be a number")
        return number
