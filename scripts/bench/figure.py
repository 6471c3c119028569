"""What a benchmark reports: one number, its unit, what it should be, and how it came about."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

_COMPARISONS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    group: the benchmark it belongs to;  name: what was measured;  value and unit ("x", "s", "MB", "tokens/s", "%");
    target: "" or a comparison with a number ("<= 0.35", ">= 4.5");  how: the parts it was made from (medians, all
    repeats, sizes), for the JSON.
    """

    group: str
    name: str
    value: float
    unit: str = ""
    target: str = ""
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        if not self.target:
            return None
        comparison, bound = self.target.split()
        return bool(_COMPARISONS[comparison](self.value, float(bound)))
