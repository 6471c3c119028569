"""An ablation without models: a launcher that stands in for `python -m avst train` and `python -m avst eval`.

It trains nothing and answers the six questions of tests/golden/r_avst_small.json, right or not at all, as a rule says
that a test can work out by hand: seed s answers question i rightly if (i + s) % 2 == 0, and a recipe without the
temporal reward answers no temporal question.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from avst.ablation.plan import Plan, make_plan
from avst.tasks.r_avst import load_annotations

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "r_avst_small.json"

LAUNCHER = """
import hashlib, json, os, signal, sys
from pathlib import Path

words = sys.argv[sys.argv.index("avst") + 1 :]
here = Path(__file__).parent
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
after = lambda flag: words[words.index(flag) + 1]

def train():
    folder = Path(after("--output-dir"))
    if (here / "crash").exists() and (here / "crash").read_text() in str(folder):
        print("first words\\navst: error: out of luck")
        sys.exit(3)
    if (here / "stop").exists() and (here / "stop").read_text() in str(folder):
        for step, whole in ((1, True), (2, True), (10, False)):
            checkpoint = folder / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True, exist_ok=True)
            if whole:
                (checkpoint / "trainer_state.json").write_text("{}")
                listed = {"bytes": 2, "hash": hashlib.blake2b(b"{}", digest_size=8).hexdigest()}
                manifest = {"version": 1, "about": {}, "files": {"trainer_state.json": listed}}
                (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        os.kill(os.getpid(), signal.SIGKILL)
    final = folder / "final"
    final.mkdir(parents=True)
    (final / "config.json").write_text("{}")
    dropped = "rewards.temporal=null" in words
    (final / "model.safetensors").write_text(json.dumps({"seed": int(after("--seed")), "dropped": dropped}))

def evaluate():
    name, _, path = after("--checkpoint").partition("=")
    folder = Path(after("--out")) / "eval" / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = json.loads((Path(path) / "model.safetensors").read_text())
    space = {"source": [640, 360], "model": [640, 360]}
    with (folder / "predictions_0.jsonl").open("w") as out:
        for i, (question, task, gold) in enumerate(json.loads((here / "gold.json").read_text())):
            right = weights is not None and (i + weights["seed"]) % 2 == 0
            if right and weights["dropped"] and task == "temporal":
                right = False
            text = gold if right else "no answer"
            out.write(json.dumps({"id": question, "completion": text, "space": space}) + "\\n")

train() if words[0] == "train" else evaluate()
"""


def make_world(folder: Path) -> Path:
    """A recipe, a starting model without any skill, and the launcher."""
    start = folder / "start_model"
    start.mkdir()
    (start / "config.json").write_text("{}")
    (start / "model.safetensors").write_text("null")
    (folder / "launcher.py").write_text(LAUNCHER)
    gold = [(question.id, question.task, question.gold_text) for question in load_annotations(GOLDEN)]
    (folder / "gold.json").write_text(json.dumps(gold))
    recipe = folder / "base.yaml"
    recipe.write_text(
        f"name: base\nmodel: {{path: {start}}}\n"
        f"data: {{train: {GOLDEN}, eval: {GOLDEN}, videos: {folder / 'no_videos'}}}\n"
    )
    return recipe


def launcher(folder: Path) -> list[str]:
    return [sys.executable, "-I", "-S", str(folder / "launcher.py")]


def plan_in(
    folder: Path, *, drops: tuple[str, ...] = ("temporal",), seeds: str = "3", sets: tuple[str, ...] = ()
) -> Plan:
    return make_plan(folder / "base.yaml", [], drops, sets, seeds, folder / "out", launcher=launcher(folder))
