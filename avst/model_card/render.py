"""Facts -> the text of a card. Every name, path and figure goes through avst.model_card.markdown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from avst.model_card.facts import Facts
from avst.model_card.markdown import block, code, folded, table, words
from avst.secrets import words_without_secrets
from avst.tables import TABLES, TRIVIAL_OF, Comparison
from avst.types import TASKS

MARK = "<!-- avst: this card was written by avst; an evaluation adds to it between the marks below -->"
BEGIN, END = "<!-- avst: evaluations begin -->", "<!-- avst: evaluations end -->"
NONE_YET = "No evaluation of these weights is recorded here. `avst eval` adds one."
METHOD = {"train": "GRPO", "sft": "supervised fine-tuning on gold answers"}


def metadata(facts: Facts, adapters: bool) -> ModelCardData:
    """The card's head. A base that is a folder is named in the text alone: the Hub would look for it there."""
    return ModelCardData(
        license=facts.values.get("license") or "unknown",
        library_name="peft" if adapters else "transformers",
        pipeline_tag="video-text-to-text",
        base_model=facts.hub_base,
        tags=["avst", "grpo" if facts.command == "train" else "sft", "audio-visual", "video"],
    )


def text(facts: Facts, step: int, figures: Mapping[str, Any], start: Mapping[str, Any], adapters: bool) -> str:
    """The card below its head. figures: the newest log line;  start: of run.json."""
    parts = [
        f"# {words(facts.values['name'])}\n\n{MARK}",
        _what(facts, step, start, adapters),
        f"## Data\n\n{_data(facts)}",
        *([f"## Rewards\n\n{_rewards(facts)}"] if facts.command == "train" else []),
        f"## While training\n\n{_figures(facts, figures)}",
        f"## Evaluation\n\n{BEGIN}\n\n{NONE_YET}\n\n{END}",
        f"## Not tested\n\n{_limits(facts)}",
        f"## How it was made\n\n{_provenance(facts, start)}",
    ]
    return "\n\n".join(parts) + "\n"


def _what(facts: Facts, step: int, start: Mapping[str, Any], adapters: bool) -> str:
    what = "Adapters (LoRA) for a video model" if adapters else "A video model"
    values = facts.values
    rows = [
        ["base model", f"{code(facts.base)}, digest {code(facts.base_digest)}"],
        ["method", words(METHOD.get(facts.command, facts.command))],
        ["optimizer steps", words(step)],
        ["seed", words(values["seed"])],
        ["processes", words(start.get("processes", "unknown"))],
        ["does not learn", ", ".join(map(code, values["model"]["freeze"])) or "nothing: all parts learn"],
        [
            "licence",
            code(values["license"]) if values.get("license") else "unknown; see the base model's and the data's",
        ],
    ]
    made = "answers questions about what sounds in a clip, when and where; made with avst"
    return f"{what} that {made}.\n\n{table(['', ''], rows)}"


def _data(facts: Facts) -> str:
    count = ", ".join(f"{number} {words(task)}" for task, number in facts.questions.items())
    files = table(["training file", "digest (BLAKE2b)"], [[code(f), code(d)] for f, d in facts.data.items()])
    return f"{sum(facts.questions.values())} questions: {count}.\n\n{files}"


def _rewards(facts: Facts) -> str:
    rows = []
    for name, reward in facts.values["rewards"].items():
        weight = reward["weight"]
        by_task = [weight.get(task) if isinstance(weight, Mapping) else weight for task in TASKS]
        rows.append([words(name), code(reward["use"]), *("–" if one is None else words(one) for one in by_task)])
    note = "Weights by task type; – where a reward is not asked. The total is their weighted sum."
    return f"{note}\n\n{table(['reward', 'function', *TASKS], rows)}"


def _figures(facts: Facts, figures: Mapping[str, Any]) -> str:
    shown = {
        key: value
        for key, value in figures.items()
        if key in ("reward", "loss", "kl", "entropy", "frac_reward_zero_std", "completions/mean_length")
        or key.startswith(("reward/", "rewards/"))
    }
    if not shown:
        return "No figure was logged."
    rows = [[code(key), words(f"{value:.4g}")] for key, value in shown.items() if isinstance(value, int | float)]
    sampled = "sampled answers to training questions" if facts.command == "train" else "training questions"
    return (
        f"The last log line up to these weights, step {words(figures.get('step'))}: {sampled}, no measure of quality "
        f"on others.\n\n{table(['figure', 'value'], rows)}"
    )


def _limits(facts: Facts) -> str:
    untrained = [task for task in TASKS if task not in facts.questions]
    lines = [
        "- Questions, clips and languages other than those of the evaluations above.",
        "- Bias, safety, privacy, and people who want to mislead it.",
        "- Tasks other than those of R-AVST: what the base model could do besides may be lost.",
        "- Answers are read by a parser: whether a person finds them right was not asked.",
    ]
    if untrained:
        lines.insert(1, f"- Questions of the kinds {', '.join(untrained)}: none were trained on.")
    return "\n".join(lines)


def _provenance(facts: Facts, start: Mapping[str, Any]) -> str:
    argv = list(map(str, start.get("argv") or []))
    if argv and Path(argv[0]).parts[-2:] == ("avst", "__main__.py"):
        argv[:1] = ["python", "-m", "avst"]
    number = start.get("number", "an unknown number of")
    parts = [
        "Started once, with" if number == 1 else f"Started {number} times; the last time with",
        block(shlex.join(words_without_secrets(argv)), "bash"),
    ]
    git = (start.get("git") or {}).get("avst")
    if git:
        changes = f" with {len(git.get('changed', []))} uncommitted changes" if git.get("dirty") else ""
        parts.append(f"avst at commit {code(git.get('commit'))}{changes}.")
    versions = [[words(name), words(version)] for name, version in (start.get("versions") or {}).items() if version]
    recipe = yaml.safe_dump(json.loads(json.dumps(facts.values)), sort_keys=False, allow_unicode=True)
    parts.append(folded("Versions", table(["library", "version"], versions)))
    parts.append(folded("Recipe", block(recipe, "yaml")))
    return "\n\n".join(parts)


def evaluation(comparison: Comparison, split: str, files: Sequence[str], command: Mapping[str, Any]) -> str:
    """One evaluation: this model's figures with their intervals, the trivial answer of each beside it."""
    where = ", ".join(code(file) for file in files)
    made = f"max_new_tokens {words(command.get('max_new_tokens'))}, greedy; avst {words(command.get('version'))}"
    parts = [f"### Split {words(split)}: {where}\n\n{made}."]
    for _, task, title in TABLES:
        if comparison.n_questions[task]:
            rows = list(_figure_rows(comparison, task))
            head = ["figure, %", "this model", "95%", "trivial answer", "questions"]
            parts.append(f"{title} ({comparison.n_questions[task]} questions)\n\n{table(head, rows)}")
    parts += [f"- {words(note)}" for note in comparison.notes]
    return "\n\n".join(parts)


def _figure_rows(comparison: Comparison, task: Any) -> Iterator[list[str]]:
    own = next(row for row in comparison.rows if row.kind == "model")
    trivial = {row.name: row for row in comparison.rows if row.kind == "trivial"}
    for (of, figure), cell in own.cells.items():
        if of == task:
            base = trivial[TRIVIAL_OF[figure]].cells.get((task, figure)) if TRIVIAL_OF[figure] in trivial else None
            interval = "–" if cell.ci95 is None else f"{cell.ci95[0]:.1f} to {cell.ci95[1]:.1f}"
            beside = "–" if base is None or base.value is None else f"{base.value:.2f} ({TRIVIAL_OF[figure]})"
            yield [figure, "–" if cell.value is None else f"{cell.value:.2f}", interval, beside, str(cell.n)]
