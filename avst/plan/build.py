"""Recipe and cards -> a Plan: everything that `avst plan` prints, and of which `avst dry-run` prints a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from avst.config import Recipe
from avst.errors import AvstError
from avst.nearest import did_you_mean
from avst.plan.cards import Machines, same_card
from avst.plan.choices import Engine
from avst.plan.limits import Row, table
from avst.plan.memory import Memory, memory
from avst.plan.seconds import Seconds, seconds
from avst.plan.shape import Shape
from avst.plan.tokens import PromptShape
from avst.plan.work import Work, updates_of


@dataclass(frozen=True, slots=True)
class Prices:
    """card_hour: of one card, None where the user gives none;  kwh: of energy;  currency: as the user writes it."""

    card_hour: float | None = None
    kwh: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What there is to do. questions: of the training set, None where nothing says;  text_is_exact: the prompt's text
    was tokenized;  clips: where the prompt's size comes from, in words."""

    prompt: PromptShape
    largest: PromptShape
    text_is_exact: bool
    clips: str
    questions: int | None
    answer: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """updates: optimizer steps of the run, None where nobody says how many questions there are;  hours: of all cards
    at work;  money: of cards and energy, None without prices."""

    recipe: str
    machines: Machines
    engine: Engine
    shape: Shape
    work: Work
    asked: Asked
    memory: Memory
    seconds: Seconds
    updates: int | None
    prices: Prices
    rows: list[Row] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.machines.card.room

    @property
    def questions_an_hour(self) -> float:
        return self.work.asked * self.machines.cards / self.work.iterations / self.seconds.step * 3600

    @property
    def hours(self) -> float | None:
        return None if self.updates is None else self.updates * self.seconds.step / 3600

    @property
    def kwh(self) -> float | None:
        """At the boards' highest power; hosts and cooling are not in it."""
        watts = self.machines.card.watts
        return None if self.hours is None or not watts else self.hours * self.machines.cards * watts / 1000

    @property
    def money(self) -> float | None:
        hours, prices = self.hours, self.prices
        if hours is None or (prices.card_hour is None and prices.kwh is None):
            return None
        return hours * self.machines.cards * (prices.card_hour or 0.0) + (self.kwh or 0.0) * (prices.kwh or 0.0)

    def as_json(self) -> dict[str, Any]:
        return {
            "estimate": "no figure here was measured on a GPU (docs/scaling.md)",
            "recipe": self.recipe,
            "machines": {**asdict(self.machines), "hosts": self.machines.hosts},
            "engine": self.engine,
            "model": self.shape.as_json(),
            "work": asdict(self.work),
            "prompt": {**asdict(self.asked.prompt), "total": self.asked.prompt.total},
            "largest_prompt": {**asdict(self.asked.largest), "total": self.asked.largest.total},
            "text_is_exact": self.asked.text_is_exact,
            "clips": self.asked.clips,
            "memory": self.memory.as_json(),
            "fits": self.fits,
            "seconds": self.seconds.as_json(),
            "questions_an_hour": self.questions_an_hour,
            "updates": self.updates,
            "hours": self.hours,
            "kwh": self.kwh,
            "money": self.money,
            "prices": asdict(self.prices),
            "limits": [asdict(row) for row in self.rows],
        }


def make_plan(
    recipe: Recipe,
    shape: Shape,
    work: Work,
    asked: Asked,
    machines: Machines,
    prices: Prices | None = None,
    cpu: bool = False,
) -> Plan:
    """cpu: the machine is a CPU (its memory has no context of CUDA, its attention a dense mask)."""
    updates = updates_of(recipe, asked.questions, work.asked * machines.cards, work.iterations)
    return Plan(
        recipe=recipe.name,
        machines=machines,
        engine=work.engine,
        shape=shape,
        work=work,
        asked=asked,
        memory=memory(shape, work, machines.cards, cpu, machines.card.room),
        seconds=seconds(shape, work, machines),
        updates=updates,
        prices=prices or Prices(),
        rows=table(recipe, shape, work, asked.questions, machines, cpu),
    )


def read_prices(values: Mapping[str, Any], card: str, what: str) -> Prices:
    """values: a table such as {currency: EUR, kwh: 0.3, A6000: 0.79}: prices of a card's hour by its name.

    Raises AvstError where the card has no price in it, or a price is no number.
    """
    numbers = {name: value for name, value in values.items() if name != "currency"}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise AvstError(f"{what}: {name} is {value!r}, expected a price: a number of at least 0")
    hour = next((float(value) for name, value in numbers.items() if same_card(name, card)), None)
    if hour is None:
        raise AvstError(f"{what}: no price of {card}{did_you_mean(card, [n for n in numbers if n != 'kwh'])}")
    kwh = numbers.get("kwh")
    return Prices(hour, None if kwh is None else float(kwh), str(values.get("currency", "")))
