"""A look and an estimate as lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from avst.preview.estimate import Estimate
from avst.preview.look import Look, media_runs
from avst.watch.safe_text import safe_lines

MOST_RUNS = 12


def as_text(look: Look, longest: int, files: Mapping[str, str]) -> str:
    clip, question = look.clip, look.question
    count, height, width = clip.frames.shape[:3]
    total = sum(look.tokens.values())
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(look.tokens.items(), key=lambda item: -item[1]))
    lines = [
        f"{question.id}  ({question.task})  {question.text}",
        f"  clip      {clip.duration_s:.2f} s, {clip.source_size[0]}x{clip.source_size[1]} px -> {count} frames of "
        f"{width}x{height} at {clip.fps:.4g}/s; " + (_sound(look)),
        f"  prompt    {total} tokens: {kinds}",
        f"  order     {_order(look)}",
        f"  gold      {look.gold_tokens} tokens with the end token, of at most {longest}",
        "  rewards   of the gold answer: "
        + ", ".join(f"{name} {'does not apply' if v is None else f'{v:.4g}'}" for name, v in look.rewards.items()),
    ]
    lines += [f"  PROBLEM   {problem}" for problem in look.problems]
    lines += [f"  {name:<9} {path}" for name, path in files.items()]
    return "\n".join(lines)


def prompt_and_gold(look: Look) -> str:
    titles = ("---- prompt, as the chat template writes it", "---- gold answer, boxes as the model sees them")
    return "\n".join([titles[0], safe_lines(look.text), titles[1], safe_lines(look.gold), "----"])


def _sound(look: Look) -> str:
    if look.mel is None:
        return "no sound is given"
    mel, seconds = look.mel
    return f"{mel.shape[1] * seconds:.2f} s of sound, {mel.shape[0]} mel bands"


def _order(look: Look) -> str:
    """Example: "video 32, audio 20, video 32, audio 20"."""
    runs = media_runs(look.order)
    shown = ", ".join(f"{kind} {n}" for kind, n in runs[:MOST_RUNS])
    return shown + (f", … ({len(runs)} runs)" if len(runs) > MOST_RUNS else "")


def estimate_as_text(found: Estimate, speed: float, measured: Mapping[str, float] | None) -> str:
    def gb(size: float) -> str:
        return f"{size / 1e9:.3g} GB"

    lines = [
        f"one step on one device, by formula: {found.tokens} tokens in the packed row, {found.parameters / 1e6:,.4g} M "
        f"parameters, {found.trainable / 1e6:,.4g} M trained",
        f"  memory    {gb(found.total)} = weights {gb(found.weights)} + gradients {gb(found.gradients)} + AdamW "
        f"{gb(found.optimizer)} + reference {gb(found.reference)} + the larger of activations {gb(found.activations)} "
        f"and the rollout's cache {gb(found.cache)}",
        "            (activations: right to a factor of two; engines, towers' buffers and fragmentation come on top)",
        f"  time      at least {found.operations / speed:.3g} s a micro-batch, at the {speed / 1e12:.3g} TFLOP/s of a "
        "matrix product here; writing answers is bound by memory and takes longer",
    ]
    if measured is not None:
        lines.append(
            f"  measured  forward and backward {measured['seconds']:.3g} s, peak {gb(measured['peak_bytes'])} "
            "(without AdamW's states; on a CPU the whole process)"
        )
    return "\n".join(lines)
