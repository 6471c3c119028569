"""Steps of the real trainer beside the plan of the same work on the card that this CPU is measured to be.

Qwen2.5-VL's shape in float32, one thread; sizes at which matrix products are most of the work. Writes
runs/plan_check.json and prints the tables of docs/scaling.md. Ten to thirty minutes; cases that are in that file
already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from avst.config import Recipe
from avst.config.recipe import ModelRecipe
from avst.models.loading import load_sketch
from avst.plan.cards import Card, Machines
from avst.plan.memory import memory
from avst.plan.seconds import seconds
from avst.plan.shape import shape_of
from avst.plan.tokens import PromptShape
from avst.plan.work import work_of
from scripts.bench.arm import Arm
from scripts.bench.step_arms import make_checkpoint
from scripts.plan_check.arm import lora_recipe

BASE = {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 2, "vision_hidden": 256, "vision_depth": 4}
WIDE = {"hidden": 512, "layers": 4, "heads": 8, "kv_heads": 2, "vision_hidden": 128, "vision_depth": 2}
MIDDLE = {"hidden": 384, "layers": 5, "heads": 6, "kv_heads": 2, "vision_hidden": 128, "vision_depth": 2}
TOWERS = ["vision", "connector"]
# name: model, frozen, LoRA rank, images, G, C, prompts by accumulation, beta, checkpointing
CASES: dict[str, tuple[dict[str, int], list[str], int, int, int, int, int, float, bool]] = {
    "256, full, G 6": (BASE, [], 0, 8, 6, 64, 1, 0.04, False),
    "256, vision frozen, G 6": (BASE, TOWERS, 0, 8, 6, 64, 1, 0.04, False),
    "256, frozen, 2 prompts": (BASE, TOWERS, 0, 8, 6, 64, 2, 0.0, False),
    "256, checkpointing, G 8": (BASE, TOWERS, 0, 4, 8, 128, 1, 0.0, True),
    "384, LoRA, G 4": (MIDDLE, [], 16, 4, 4, 64, 1, 0.04, False),
    "384, LoRA, G 16": (MIDDLE, [], 16, 2, 16, 64, 1, 0.0, False),
    "512, full, G 4": (WIDE, [], 0, 4, 4, 96, 1, 0.0, False),
    "512, frozen, short": (WIDE, TOWERS, 0, 1, 8, 96, 1, 0.04, False),
}
PHASES = ("rollout", "reference", "forward", "backward", "optimizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="timed steps a case, of which the quickest counts")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("runs/plan_check.json"))
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.out.read_text())["cases"] if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            if name not in found and (options.only is None or options.only in name):
                found[name] = measured(Path(folder), case, options.steps)
                options.out.write_text(json.dumps({"cases": found}, indent=1) + "\n")
                print(f"measured {name}", flush=True)
        card = best([result["card"] for result in found.values()])
        found = {name: found[name] for name in CASES if name in found}
        for name, result in found.items():
            result["plan"] = planned(Path(folder), CASES[name], result, card)
    options.out.write_text(json.dumps({"card": asdict(card), "cases": found}, indent=1) + "\n")
    print(
        f"\ncard: {card.tflops:.4f} TFLOP/s, {card.bandwidth_gb_s:.1f} GB/s, weights for a few rows "
        f"{card.read / 1e9:.1f} GB/s, {card.op_us:.2f} us an operation\n"
    )
    print("\n".join(seconds_table(found)), "\n\n", "\n".join(memory_table(found)), sep="")


def best(cards: list[dict[str, Any]]) -> Card:
    """The better of each figure: other programs only make them worse."""
    wide = max(c["bandwidth_gb_s"] for c in cards)
    return replace(
        Card(**cards[0]),
        tflops=max(c["tflops"] for c in cards),
        bandwidth_gb_s=wide,
        read_share=max(c["read_share"] * c["bandwidth_gb_s"] for c in cards if "read_share" in c) / wide,
        op_us=min(c["op_us"] for c in cards),
    )


def checkpoint(folder: Path, case: tuple[Any, ...]) -> Path:
    sizes = case[0]
    model = folder / "-".join(str(size) for size in sizes.values())
    if not model.exists():
        make_checkpoint(model, **sizes)
    return model


def measured(folder: Path, case: tuple[Any, ...], steps: int) -> dict[str, Any]:
    _, freeze, lora, images, answers, tokens, prompts, beta, checkpointing = case
    model = checkpoint(folder, case)
    shape: dict[str, Any] = {"out": str(folder / "out"), "images": images, "side": 336, "answers": answers}
    shape |= {"answer_tokens": tokens, "prompts": prompts, "beta": beta, "checkpointing": checkpointing}
    with Arm(
        "scripts.plan_check.arm:steps", threads=1, folder=str(model), freeze=freeze, lora=lora, steps=steps, **shape
    ) as arm:
        return arm.run()


def planned(folder: Path, case: tuple[Any, ...], result: dict[str, Any], card: Card) -> dict[str, Any]:
    """The plan of the same work."""
    _, freeze, lora, _, answers, tokens, prompts, beta, checkpointing = case
    grpo = {"num_generations": answers, "per_device_train_batch_size": answers, "max_completion_length": tokens}
    grpo |= {"gradient_accumulation_steps": prompts, "beta": beta, "gradient_checkpointing": checkpointing}
    recipe = Recipe("check", ModelRecipe("check", lora=lora_recipe(lora)), grpo=grpo | {"bf16": False})
    drawn, _, _ = load_sketch(checkpoint(folder, case), dtype="float32", freeze=freeze)
    shape = shape_of(drawn, lora_recipe(lora))
    work = work_of(recipe, 4, PromptShape(**result["prompt"]))
    need = memory(shape, work, cpu=True)
    return {
        **seconds(shape, work, Machines("this machine", card, 1, 1)).as_json(),
        "prompt_tokens": work.prompt.total,
        "trained": shape.trainable,
        "memory": need.as_json(),
        "above": max(need.rollout, need.update) + need.features,
    }


def off(planned: float, real: float) -> str:
    return f"{planned / real - 1:+.0%}"


def seconds_table(found: dict[str, Any]) -> list[str]:
    """Seconds of a step: measured, planned, the difference, by phase."""
    lines = ["| case | " + " | ".join(f"{phase}: s | plan | off" for phase in (*PHASES, "step")) + " |"]
    lines.append("|---" * (1 + 3 * (1 + len(PHASES))) + "|")
    for name, result in found.items():
        plan, real = result["plan"], dict(result["phases"])
        plan = plan | {"rollout": plan["rollout_prefill"] + plan["rollout_decode"]}
        cells = []
        for phase in PHASES:
            seen = real.get(phase, 0.0)
            cells.append(f"{seen:.2f} | {plan[phase]:.2f} | {off(plan[phase], seen)}" if seen else "- | - | -")
        whole = sum(real.get(phase, 0.0) for phase in PHASES)
        all_of = sum(plan[phase] for phase in PHASES)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {whole:.2f} | {all_of:.2f} | {off(all_of, whole)} |")
    return lines


def memory_table(found: dict[str, Any]) -> list[str]:
    """MB: what is exact, then what the step took above it, by torch's own count."""
    lines = ["| case | weights | plan | optimizer | plan | reference | plan | above, at the peak | plan | off |"]
    lines.append("|---" * 10 + "|")
    for name, result in found.items():
        need = result["plan"]["memory"]
        cells = [f"{result[k] / 1e6:.2f} | {need[k] / 1e6:.2f}" for k in ("weights", "optimizer", "reference")]
        real, plan = result["above"], result["plan"]["above"]
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {real / 1e6:.1f} | {plan / 1e6:.1f} | {off(plan, real)} |"
        )
    return lines


if __name__ == "__main__":
    main()
