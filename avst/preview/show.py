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


def estimate_as_text(found: Estimate, measured: Mapping[str, float] | None) -> str:
    def gb(size: float) -> str:
        return f"{size / 1e9:.3g} GB"

    need, spent, shape = found.memory, found.seconds, found.shape
    lines = [
        f"one step on one device, by formula: {found.work.tokens} tokens in the packed row, "
        f"{shape.parameters / 1e6:,.4g} M parameters, {shape.trainable / 1e6:,.4g} M trained",
        f"  memory    {gb(need.total)} at most: weights {gb(need.weights)} + AdamW {gb(need.optimizer)} + reference "
        f"{gb(need.reference)} + features {gb(need.features)}, and the larger of the rollout {gb(need.rollout)} (cache "
        f"{gb(need.cache)}) and the update {gb(need.update)} (gradients {gb(need.gradients)}, activations "
        f"{gb(need.activations)}, logits {gb(need.logits)})",
        "            (the program itself, engines and the towers' buffers come on top)",
        f"  time      {spent.step:.3g} s a step here: rollout {spent.rollout:.3g}, reference {spent.reference:.3g}, "
        f"forward {spent.forward:.3g}, backward {spent.backward:.3g}; at the {found.card.tflops:.3g} TFLOP/s of a "
        f"matrix product and {found.card.bandwidth_gb_s:.3g} GB/s of a copy here, to a factor of two",
    ]
    if measured is not None:
        lines.append(
            f"  measured  forward and backward {measured['seconds']:.3g} s, peak {gb(measured['peak_bytes'])} "
            "(without AdamW's states; on a CPU the whole process)"
        )
    return "\n".join(lines)
