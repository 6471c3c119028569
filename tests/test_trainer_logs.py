"""The figures of a GRPO step that can be worked out by hand, and what several processes make of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avst.data import Skipped
from avst.plugins import RewardSpec
from avst.step import Meter
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt
from tests.grpo_world import make_trainer, perturb, weights
from tests.tiny_world import make_builder, make_clip, make_question, plain_logps


def test_figures_of_a_step_made_by_hand(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """Two prompts whose lengths, rewards and truncation are known, one of them skipped besides; two reward functions
    with weights, one for spatial questions alone."""
    folder = tiny_folders["qwen2_5_vl"]
    builder = make_builder(folder)
    questions = [make_question(0), make_question(1, "Where is the man?", "spatial")]
    prompts = [builder.build(question, make_clip(seed=i)) for i, question in enumerate(questions)]
    answers = {questions[0].id: [[301], [302] * 2, [303] * 6], questions[1].id: [[304] * 5, [305] * 5, [306] * 2]}

    class Known(GRPOTrainer):
        def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
            self._paths_checked = True
            mine = [answers[p.question.id] for p in prompts]
            return [
                Group(p, ids, [[0.0] * len(a) for a in ids], [len(a) > 5 for a in ids])
                for p, ids in zip(prompts, mine, strict=True)
            ]

    def length(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        return [len(ids) / 10 for ids in completion_ids]

    def one(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        return [1.0] * len(completion_ids)

    rewards = [RewardSpec("length", length, 2.0), RewardSpec("one", one, {"spatial": 0.5})]
    saved: list[tuple[int, list[dict[str, Any]]]] = []
    trainer = make_trainer(
        folder,
        tmp_path,
        [prompts[0], Skipped("x", "gone"), prompts[1]],
        trainer_class=Known,
        builder=builder,
        rewards=rewards,
        gradient_accumulation_steps=3,
        beta=0.04,
        log_completions=True,
        completion_sink=lambda step, rows: saved.append((step, rows)),
    )
    reference = weights(trainer)
    perturb(trainer.model, scale=0.2)
    policy = weights(trainer)
    trainer.train()
    line = trainer.state.log_history[0]
    temporal, spatial = [0.2, 0.4, 1.2], [1.5, 1.5, 0.9]
    spreads = [torch.tensor(t).std().item() for t in (temporal, spatial)]
    wanted = {
        "reward": sum(temporal + spatial) / 6,
        "reward/temporal": 0.6,
        "reward/spatial": 1.3,
        "reward_std": sum(spreads) / 2,
        "rewards/length/mean": 0.35,
        "rewards/length/temporal": 0.3,
        "rewards/length/spatial": 0.4,
        "rewards/one/mean": 1.0,
        "rewards/one/spatial": 1.0,
        "frac_reward_zero_std": 0.0,
        "completions/mean_length": 21 / 6,
        "completions/min_length": 1,
        "completions/max_length": 6,
        "completions/clipped_ratio": 1 / 6,
        "completions/tokens": 21,
        "prompts/mean_length": sum(len(p.input_ids) for p in prompts) / 2,
        "samples/skipped": 1,
        "ratio/mean": 1.0,
        "clip_ratio/region_mean": 0.0,
    }
    for name, value in wanted.items():
        assert line[name] == pytest.approx(value, rel=1e-6), name
    assert "rewards/one/temporal" not in line
    plain = trainer.model
    logps = {}
    for label, values in (("policy", policy), ("reference", reference)):
        plain.load_state_dict(values, strict=False)
        with torch.no_grad():
            logps[label] = torch.cat(
                [plain_logps(plain, p, answer) for p in prompts for answer in answers[p.question.id]]
            )
    gap = logps["reference"] - logps["policy"]
    assert line["kl"] == pytest.approx(float((gap.exp() - gap - 1).mean()), rel=1e-6)
    assert line["kl"] > 1e-3
    assert {f"seconds/{name}" for name in ("data", "rollout", "rewards", "reference", "forward", "backward")} <= set(
        line
    )
    assert line["tokens_per_second"] == pytest.approx(21 / line["seconds/rollout"])
    ((step, rows),) = saved
    assert step == 1  # as in the log
    assert [row["n_tokens"] for row in rows] == [1, 2, 6, 5, 5, 2]
    assert [row["total"] for row in rows] == pytest.approx(temporal + spatial)
    assert rows[0]["rewards"] == {"length": 0.1, "one": None}
    assert [row["truncated"] for row in rows] == [False, False, True, False, False, False]
    mean, spread = sum(spatial) / 3, spreads[1] + 1e-4
    assert [row["advantage"] for row in rows[3:]] == pytest.approx([(t - mean) / spread for t in spatial])
    assert rows[3]["question_id"] == questions[1].id


def test_meters_of_several_processes_are_put_together() -> None:
    """A mean over all values, not of means; extremes; sums; of seconds the slowest process's."""
    one, two = Meter(), Meter()
    for value in (1.0, 2.0, 3.0):
        one.mean("reward", value)
    two.mean("reward", 10.0)
    two.mean("kl", 0.0, 0)
    for meter, low, spent in ((one, 5, 1.5), (two, 3, 2.5)):
        meter.low("length/min", low)
        meter.high("length/max", low)
        meter.add("samples/skipped", low)
        meter.add("seconds/rollout", spent)
    assert one.merged([one, two]) == {
        "length/max": 5,
        "length/min": 3,
        "reward": 4.0,
        "samples/skipped": 8,
        "seconds/rollout": 2.5,
    }
