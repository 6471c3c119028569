"""avst.grpo against TRL's own trainer (tests/trl_reference.py) in float64, and against numbers worked by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl

from avst.errors import AvstError
from avst.grpo import (
    LossConfig,
    LossOutput,
    Normaliser,
    advantages,
    decoupled_advantages,
    high_entropy_mask,
    no_spread,
    policy_loss,
    step_tokens,
    token_kl,
)
from avst.grpo_losses import LOSS_TYPES
from tests.trl_reference import flat_logps, make_text_model, make_trl_trainer, trl_inputs

PROMPTS = [[3, 4, 5], [6, 7], [8, 9, 10, 11], [12]]
COMPLETIONS = [[13, 14, 15, 16, 1], [17, 18], [26], [19, 20, 21, 22, 23, 24, 25, 1]]
ADVANTAGES = torch.tensor([1.3, -0.7, 0.4, -1.1], dtype=torch.float64)


def rows(*values: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


# What the sampling policy's and the reference's log-probs are above the policy's. The ratios leave 0.8..1.2 on both
# sides for both signs of the advantage, token by token and in the mean over a completion.
OLD = rows([-0.7, -0.1, -0.3, 0.2, -0.9], [0.5, 0.1], [0.05], [-0.6, 0.4, 0.3, -0.5, -0.9, -0.2, 0.0, -0.6])
REF = rows([0.3, -0.2, 0.1, 0.0, -0.4], [-0.3, 0.6], [0.2], [0.1, -0.1, 0.5, -0.6, 0.2, 0.3, -0.3, 0.05])


class Both:
    """One batch through TRL's `_compute_loss` and through avst.grpo, on two copies of one model."""

    def __init__(self, folder: Path, off_policy: bool = True, **options: Any) -> None:
        self.off_policy = off_policy
        model, tokenizer = make_text_model(folder)
        self.trainer = make_trl_trainer(model, tokenizer, folder, **options)
        self.trainer.model.train()
        self.trainer.current_gradient_accumulation_steps = self.trainer.args.gradient_accumulation_steps
        self.model, _ = make_text_model(folder)
        self.config = LossConfig.of(self.trainer.args)
        self.temperature = self.trainer.temperature

    def theirs(
        self, part: slice = slice(None), truncated: list[bool] | None = None, items: int | None = None
    ) -> torch.Tensor:
        now, _, index = flat_logps(self.model, PROMPTS, COMPLETIONS, self.temperature)
        by_completion = [now[index == i].detach() for i in range(len(PROMPTS))]
        old = [(a + b).tolist() for a, b in zip(by_completion, OLD, strict=True)]
        ref = [(a + b).tolist() for a, b in zip(by_completion, REF, strict=True)]
        inputs = trl_inputs(
            PROMPTS[part],
            COMPLETIONS[part],
            ADVANTAGES[part],
            old_logps=old[part] if self.off_policy else None,
            ref_logps=ref[part],
            truncated=truncated,
            num_items_in_batch=items,
        )
        return self.trainer._compute_loss(self.trainer.model, inputs)

    def ours(
        self, part: slice = slice(None), truncated: list[bool] | None = None, items: int | None = None, share: float = 1
    ) -> LossOutput:
        now, entropies, index = flat_logps(self.model, PROMPTS[part], COMPLETIONS[part], self.temperature)
        old, ref = (now.detach() + torch.cat(above[part]) for above in (OLD, REF))
        keep = torch.ones_like(index, dtype=torch.bool)
        if truncated is not None:
            keep = ~torch.tensor(truncated)[index]
        args = self.trainer.args
        tokens = step_tokens(
            keep.sum() if items is None else torch.tensor(items),
            accumulation_steps=args.gradient_accumulation_steps,
            steps_per_generation=args.steps_per_generation,
        )
        return policy_loss(
            now,
            old if self.off_policy else None,
            ref,
            ADVANTAGES[part],
            index,
            self.config,
            Normaliser(args.gradient_accumulation_steps, tokens),
            token_mask_L=keep,
            policy_mask_L=high_entropy_mask(entropies, share, entropies[keep]) if share < 1 else None,
        )

    def assert_same(self, theirs: torch.Tensor, ours: torch.Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        self.trainer.model.zero_grad()
        self.model.zero_grad()
        theirs.backward()
        ours.backward()
        named = dict(self.model.named_parameters())
        largest = max(p.grad.abs().max() for p in named.values() if p.grad is not None)
        assert largest > 1e-6
        for name, parameter in self.trainer.model.named_parameters():
            torch.testing.assert_close(named[name].grad, parameter.grad, rtol=1e-9, atol=1e-11 * largest, msg=name)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("off_policy", [False, True], ids=["on-policy", "old-logps"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss_type", list(LOSS_TYPES))
def test_loss_gradient_and_logs_equal_trl(
    tmp_path: Path, loss_type: str, beta: float, off_policy: bool, level: str
) -> None:
    both = Both(tmp_path, off_policy, loss_type=loss_type, beta=beta, importance_sampling_level=level)
    theirs, ours = both.theirs(), both.ours()
    both.assert_same(theirs, ours.loss)

    logged = {name: values[-1] for name, values in both.trainer._metrics["train"].items()}
    for name in ("kl", "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio"):
        assert (name in ours.means) == (name in logged)
        if name in logged:
            # TRL counts in float32
            assert ours.means[name].value == pytest.approx(logged[name], rel=1e-6)
    if "clip_ratio/region_mean" in logged:
        assert (logged["clip_ratio/low_mean"] > 0) == (logged["clip_ratio/high_mean"] > 0) == off_policy
        assert ours.extremes["clip_ratio/low_min"].item() == pytest.approx(logged["clip_ratio/low_min"], rel=1e-6)
        assert ours.extremes["clip_ratio/high_max"].item() == pytest.approx(logged["clip_ratio/high_max"], rel=1e-6)


OPTIONS: list[dict[str, Any]] = [
    {"loss_type": "dapo", "epsilon": 0.1, "epsilon_high": 0.28},
    {"loss_type": "grpo", "delta": 1.4},
    {"loss_type": "cispo", "epsilon_high": 1.1},
    {"loss_type": "dapo", "beta": 0.04, "use_bias_correction_kl": False},
    {"loss_type": "dr_grpo", "max_completion_length": 37},
    {"loss_type": "bnpo", "off_policy_mask_threshold": 0.04},
    {"loss_type": "sapo", "sapo_temperature_neg": 2.0, "sapo_temperature_pos": 0.5},
    {"loss_type": "vespo", "vespo_k_pos": 1.0, "vespo_lambda_neg": 0.7},
    {"loss_type": "dapo", "temperature": 0.7},
    {"loss_type": "grpo", "gradient_accumulation_steps": 3, "num_iterations": 2},
    {"loss_type": "dapo", "gradient_accumulation_steps": 2, "steps_per_generation": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_options_mean_what_they_mean_in_trl(tmp_path: Path, options: dict[str, Any]) -> None:
    both = Both(tmp_path, **options)
    both.assert_same(both.theirs(), both.ours().loss)
    changed = {name: value for name, value in options.items() if hasattr(both.config, name)}
    assert all(getattr(both.config, name) == value for name, value in changed.items())


@pytest.mark.parametrize("loss_type", list(LOSS_TYPES))
def test_truncated_completions_count_as_in_trl(tmp_path: Path, loss_type: str) -> None:
    both = Both(tmp_path, loss_type=loss_type, beta=0.04, mask_truncated_completions=True)
    truncated = [False, True, False, False]
    theirs, ours = both.theirs(truncated=truncated), both.ours(truncated=truncated).loss
    assert not torch.isclose(ours, both.ours().loss)
    both.assert_same(theirs, ours)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_high_entropy_tokens_are_those_of_trl(tmp_path: Path, share: float) -> None:
    both = Both(tmp_path, beta=0.04, top_entropy_quantile=share)
    theirs, ours = both.theirs(), both.ours(share=share).loss
    assert not torch.isclose(ours, both.ours().loss)
    both.assert_same(theirs, ours)


def test_unmodified_trl_in_its_own_precision(tmp_path: Path) -> None:
    """The exact trainer above replaces TRL's log-probs; with TRL's own (float32) the loss agrees to float32."""
    both = Both(tmp_path, beta=0.04, trainer_class=trl.GRPOTrainer)
    torch.testing.assert_close(both.ours().loss, both.theirs(), rtol=1e-4, atol=1e-6, check_dtype=False)


CUT_MATTERS = {"bnpo"}


@pytest.mark.parametrize("loss_type", list(LOSS_TYPES))
def test_a_step_cut_into_micro_batches(tmp_path: Path, loss_type: str) -> None:
    """Two micro-batches of two completions: the same as TRL's two, and as one of four unless TRL's is not either."""
    (tmp_path / "a").mkdir()
    whole = Both(tmp_path / "a", loss_type=loss_type, beta=0.04).ours().loss
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_generations": 4}
    both = Both(tmp_path, loss_type=loss_type, beta=0.04, **options)
    parts = (slice(0, 2), slice(2, 4))
    items = sum(map(len, COMPLETIONS))
    theirs = sum(both.theirs(part, items=items) for part in parts)
    ours = sum(both.ours(part, items=items).loss for part in parts)
    assert torch.isclose(ours, whole, rtol=1e-12).item() == (loss_type not in CUT_MATTERS)
    both.assert_same(theirs, ours)


# ---- what TRL is not asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", list(LOSS_TYPES))
def test_a_batch_without_tokens_is_a_zero_with_a_gradient(loss_type: str, level: str) -> None:
    logps = torch.zeros(5, requires_grad=True)
    none = torch.zeros(5, dtype=torch.bool)
    config = LossConfig(loss_type=loss_type, beta=0.04, importance_sampling_level=level)
    index = torch.tensor([0, 0, 0, 1, 1])
    out = policy_loss(
        logps, None, logps.detach(), torch.ones(2), index, config, Normaliser(1, torch.tensor(1.0)), token_mask_L=none
    )
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert logps.grad is not None
    assert logps.grad.tolist() == [0.0] * 5
    assert all(not math.isnan(mean.value) for mean in out.means.values())
    assert all(math.isnan(value) for value in out.extremes.values())


def test_masked_tokens_cannot_spoil_the_loss() -> None:
    """Tokens that count nowhere may hold anything: they are left out, not multiplied by zero."""
    logps = torch.tensor([-1.0, -2.0, -math.inf, math.nan], requires_grad=True)
    index, keep = torch.tensor([0, 0, 1, 1]), torch.tensor([True, True, False, False])
    out = policy_loss(
        logps, None, None, torch.tensor([1.0, -1.0]), index, LossConfig("grpo"), Normaliser(), token_mask_L=keep
    )
    out.loss.backward()
    # ratio 1, A = 1: completion 0 has the mean -1, completion 1 nothing; the mean over two completions is -0.5
    assert out.loss.item() == pytest.approx(-0.5)
    assert logps.grad is not None
    assert logps.grad.tolist() == pytest.approx([-0.25, -0.25, 0.0, 0.0])


def test_clipped_loss_by_hand() -> None:
    """Ratios 1.5, 0.5 (A = 2) and 1.5, 0.5 (A = -1), clip at 0.8 and 1.2: -2.4, -1.0, 1.5, 0.8; mean -0.275."""
    old = torch.full((4,), -1.0, dtype=torch.float64)
    logps = old + torch.tensor([1.5, 0.5, 1.5, 0.5], dtype=torch.float64).log()
    out = policy_loss(
        logps, old, None, torch.tensor([2.0, -1.0]), torch.tensor([0, 0, 1, 1]), LossConfig("bnpo"), Normaliser()
    )
    assert out.loss.item() == pytest.approx(-0.275)
    assert out.means["clip_ratio/region_mean"].value == 0.5  # the first (high, A > 0) and the last (low, A < 0)
    assert out.means["clip_ratio/low_mean"].value == 0.25
    assert out.extremes["clip_ratio/high_max"].item() == 0.5
    assert out.means["ratio/mean"].value == pytest.approx(1.0)
    assert out.extremes["ratio/max"].item() == pytest.approx(1.5)


def test_kl_by_hand() -> None:
    """d = ln 2: 2 - ln 2 - 1; d = -ln 2: 0.5 + ln 2 - 1; equal log-probs: exactly 0."""
    policy = torch.tensor([-1.0, -1.0, -3.0], dtype=torch.float64)
    reference = policy + torch.tensor([math.log(2), -math.log(2), 0.0], dtype=torch.float64)
    expected = [1 - math.log(2), math.log(2) - 0.5, 0.0]
    assert token_kl(policy, reference).tolist() == pytest.approx(expected, rel=1e-12)


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(AvstError, match="loss_type: 'drgrpo' is none of grpo, dr_grpo"):
        LossConfig("drgrpo")
    with pytest.raises(AvstError, match='importance_sampling_level="sequence" with loss_type="grpo"'):
        LossConfig("gspo")
    with pytest.raises(AvstError, match="importance_sampling_level: 'word' is none of token, sequence"):
        LossConfig(importance_sampling_level="word")
    with pytest.raises(AvstError, match="scale_rewards: 'std' is none of group, batch, none"):
        advantages(torch.zeros(1, 2), "std")
    with pytest.raises(AvstError, match="max_completion_length: loss_type dr_grpo"):
        LossConfig("dr_grpo", max_completion_length=None)


# ---- advantages ------------------------------------------------------------------------------------------------------

TOTALS = np.array([[1.0, 2.0, 3.0, 2.0], [0.0, 0.0, 1.0, 0.0]])


def test_advantages_by_numpy() -> None:
    centred = TOTALS - TOTALS.mean(1, keepdims=True)
    expected = {
        "group": centred / (TOTALS.std(1, ddof=1, keepdims=True) + 1e-4),
        "batch": centred / (TOTALS.std(ddof=1) + 1e-4),
        "none": centred,
    }
    for scale, values in expected.items():
        np.testing.assert_allclose(advantages(torch.tensor(TOTALS), scale).numpy(), values, rtol=1e-12)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_groups_without_spread_teach_nothing(scale: str) -> None:
    """0.7 six times has a mean that is not 0.7; the advantage must be zero all the same, not 1e-12."""
    rows_QG = [[0.7] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [math.nan] * 6, [0.7, *[math.nan] * 5]]
    totals = torch.tensor(rows_QG, dtype=torch.float64)
    assert totals[0].mean() != 0.7
    assert no_spread(totals).tolist() == [True, False, True, True]
    result = advantages(totals, scale)
    assert result[[0, 2, 3]].abs().max().item() == 0.0
    assert result[1].abs().min().item() > 0.01


def test_a_completion_without_reward_is_left_out() -> None:
    """Of 1, 2, 3 and nothing: mean 2, std 1."""
    result = advantages(torch.tensor([[1.0, math.nan, 2.0, 3.0]], dtype=torch.float64))
    assert result.tolist()[0] == pytest.approx([-1 / 1.0001, 0.0, 0.0, 1 / 1.0001])


def test_decoupled_advantages_by_hand() -> None:
    """Two rewards on 1, 3 and 0, 20: each becomes ∓√½ in its group whatever its scale; weights 1 and 3 add them up.

    The second group has no spread: its advantages are zero, also after the batch's own normalisation.
    """
    rewards = torch.tensor([[[1.0, 0.0], [3.0, 20.0]], [[0.7, 0.7], [0.7, 0.7]]], dtype=torch.float64)
    one, two = math.sqrt(0.5) * math.sqrt(2) / (math.sqrt(2) + 1e-4), math.sqrt(0.5) * 200**0.5 / (200**0.5 + 1e-4)
    total = one + 3 * two
    expected = total / (total * math.sqrt(2 / 3) + 1e-4)
    result = decoupled_advantages(rewards, torch.tensor([1.0, 3.0], dtype=torch.float64))
    assert result.flatten().tolist() == pytest.approx([-expected, expected, 0.0, 0.0], rel=1e-12)


@pytest.mark.parametrize("how", ["group", "batch", "none", "normalize_then_sum"])
def test_advantages_are_those_of_a_real_trl_step(tmp_path: Path, how: str) -> None:
    """TRL rolls out and scores two groups of four with two rewards, one of which abstains twice; one row has none."""
    first = [0.1, 0.9, 0.4, 0.4, None, 1.0, 0.0, 0.25]
    second = [1.0, None, 0.5, 0.0, None, 0.2, 0.2, 0.3]
    model, tokenizer = make_text_model(tmp_path)
    decoupled = how == "normalize_then_sum"
    trainer = make_trl_trainer(
        model,
        tokenizer,
        tmp_path,
        reward=[lambda completions, **_: first, lambda completions, **_: second],
        reward_weights=[1.0, 0.5],
        scale_rewards="group" if decoupled else how,
        multi_objective_aggregation=how if decoupled else "sum_then_normalize",
        per_device_train_batch_size=8,
        max_steps=1,
    )
    trainer.train()
    values = [[math.nan if r is None else r for r in row] for row in (first, second)]
    rewards = torch.tensor(values, dtype=torch.float64).T.reshape(2, 4, 2)
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    totals = (rewards * weights).nansum(-1).masked_fill(rewards.isnan().all(-1), math.nan)
    ours = decoupled_advantages(rewards, weights) if decoupled else advantages(totals, how)
    # TRL computes in float32
    assert ours.flatten().tolist() == pytest.approx(list(trainer._logs["advantages"]), rel=1e-5, abs=1e-6)
