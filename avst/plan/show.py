"""A plan on the screen: tables by rich on a terminal, lines as wide as they need be in a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from avst.plan.build import Plan
from avst.plan.limits import Point

PARTS = (
    ("weights", "weights", "all of the run"),
    ("reference", "reference copy", "all of the run"),
    ("optimizer", "optimizer", "all of the run"),
    ("buffers", "the engine's buffers", "all of the run"),
    ("features", "features of frozen towers", "all of the step"),
    ("gathered", "weights put together", "rollout"),
    ("cache", "keys and values", "rollout"),
    ("scratch", "prefill, sampling", "rollout"),
    ("vllm", "the colocated vLLM", "all of the run"),
    ("gradients", "gradients", "update"),
    ("activations", "activations", "update"),
    ("logits", "logits, by pieces", "update"),
)
PHASES = (
    ("data", "data, not hidden"),
    ("rollout_prefill", "rollout: towers, prefill"),
    ("rollout_decode", "rollout: answers"),
    ("rewards", "rewards"),
    ("reference", "reference"),
    ("forward", "forward"),
    ("backward", "backward"),
    ("optimizer", "optimizer"),
    ("communication", "communication, not hidden"),
)


def show(plan: Plan, console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=10_000, highlight=False, file=console.file)
    for line in head(plan):
        console.print(Text(line))
    console.print(_memory(plan))
    console.print(_seconds(plan))
    for line in totals(plan):
        console.print(Text(line, style="bold" if line.startswith("total") else ""))
    for table in _limits(plan):
        console.print(table)
    for line in footnotes(plan):
        console.print(Text(line, style="dim"))


def head(plan: Plan) -> list[str]:
    shape, work, asked = plan.shape, plan.work, plan.asked
    prompt = asked.prompt
    about = "" if asked.text_is_exact else "about "
    trained = f"{shape.trainable / 1e6:,.4g} M trained" + (f" (LoRA, r {shape.rank})" if shape.lora else "")
    lines = [
        f"{plan.recipe} on {plan.machines} ({plan.engine}): estimated, not measured",
        f"model      {shape.parameters / 1e6:,.5g} M parameters, {trained}",
        f"prompt     {about}{prompt.total:,} tokens: {prompt.video:,} video, {prompt.audio:,} audio, {about}"
        f"{prompt.text:,} text; {asked.clips}",
    ]
    if asked.largest.total != prompt.total:
        lines.append(f"largest    {asked.largest.total:,} tokens, which memory is reckoned for")
    mean = f"{work.answer:,.0f}" if work.answer < work.longest else "as many, the most they may take,"
    lines.append(f"answers    {work.G} a prompt, at most {work.longest:,} tokens; {mean} on average")
    lines.append(
        f"row        {work.tokens:,} tokens: {work.prompts} x ({asked.largest.total:,} + {work.G} x {work.longest:,})"
    )
    a_step = work.asked * plan.machines.cards
    lines.append(
        f"step       {a_step:,} questions ({work.prompts} a card x {work.micro_batches} accumulated x "
        f"{plan.machines.cards} cards), {a_step * work.G:,} answers"
    )
    return lines


def _memory(plan: Plan) -> Table:
    table = _new(f"memory of a card, of {_gb(plan.machines.card.memory_gib * 2**30)}", "part", "GB", "while")
    for name, words, when in PARTS:
        if size := getattr(plan.memory, name):
            asleep = name == "vllm" and plan.memory.vllm_sleeps
            table.add_row(words, f"{size / 1e9:.2f}", "rollout" if asleep else when)
    need, phase = plan.memory, "update" if plan.memory.update >= plan.memory.rollout else "rollout"
    fits = "fits" if plan.fits else f"DOES NOT FIT: {need.largest} first"
    extra = ", with 5 % of fragments and CUDA's own 1.07" if need.own else ""
    table.add_section()
    table.add_row(
        f"at the peak, in the {phase}{extra}", f"{need.total / 1e9:.2f}", fits, style="" if plan.fits else "bold red"
    )
    return table


def _seconds(plan: Plan) -> Table:
    table = _new("seconds of an optimizer step", "phase", "s", "share")
    for name, words in PHASES:
        spent = getattr(plan.seconds, name)
        table.add_row(words, f"{spent:.3g}", f"{spent / plan.seconds.step:.0%}")
    table.add_section()
    table.add_row("step", f"{plan.seconds.step:.3g}", "")
    return table


def totals(plan: Plan) -> list[str]:
    lines = [f"pace       {plan.questions_an_hour:,.0f} questions an hour"]
    if plan.hours is None:
        return [*lines, "total      unknown: neither data nor grpo.max_steps say how many steps (--questions N)"]
    kwh = "" if plan.kwh is None else f", {plan.kwh:,.3g} kWh at the boards' highest power"
    money = "" if plan.money is None else f", {plan.money:,.2f} {plan.prices.currency}".rstrip()
    if plan.money is None:
        money = "; no price was given (--price, --prices)"
    cards = plan.hours * plan.machines.cards
    return [*lines, f"total      {plan.updates:,} updates, {plan.hours:,.3g} h, {cards:,.3g} card hours{kwh}{money}"]


def _limits(plan: Plan) -> Iterator[Table]:
    """The same batch, then the growing one."""
    a_step = plan.work.asked * plan.machines.cards
    for name, batch in (
        ("same", f"the same batch: {a_step:,} questions a step"),
        ("grows", f"a growing batch: {plan.work.asked:,} questions a card and step"),
    ):
        title = f"where the limit lies, with {batch}"
        table = _new(title, "cards", "hosts", "GB", "questions/h", "hours", "updates", "eff.", "limit")
        for row in plan.rows:
            point: Point = getattr(row, name)
            numbers = (point.questions_an_hour, point.hours, point.updates)
            cells = [f"{row.cards:,}", f"{row.hosts:,}", f"{row.memory / 1e9:.1f}"]
            for number, form in zip(numbers, (",.0f", ",.3g", ",d"), strict=True):
                cells.append("-" if number is None else format(number, form))
            cells.append("-" if point.efficiency is None else f"{point.efficiency:.0%}")
            table.add_row(*cells, point.limit, style="bold" if row.cards == plan.machines.cards else "")
        yield table


def footnotes(plan: Plan) -> list[str]:
    lines = [
        "Every figure is reckoned by the formulae of docs/scaling.md; none was measured on a GPU. Tokens, parameters",
        "and what is kept of them are exact, activations right to some percent, seconds to a factor of two.",
        f"Hosts of {plan.machines.places} cards, joined at {plan.machines.network_gb_s * 8:g} Gbit/s "
        "a host. Efficiency: questions an hour and card, against the fewest cards that hold it.",
    ]
    if plan.work.vllm:
        beside = (
            "its share of the card is counted" if plan.work.vllm == "colocate" else "its server's cards are not counted"
        )
        lines.append(
            f"Rollouts by vLLM are not in the plan: {beside}, but seconds, hours and money "
            "are those of a run whose answers avst itself draws."
        )
    if not plan.machines.card.bfloat16 and plan.work.width == 2:
        lines.append(f"{plan.machines.name} has no bfloat16: the figures are those of float16.")
    return lines


def _new(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column in ("part", "phase", "while", "limit") else "right")
    return table


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
