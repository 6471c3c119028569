"""The correction for a sampler that is not the policy, against TRL's own lines and numbers worked by hand."""

from __future__ import annotations

import inspect
import math
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl

from avst.errors import AvstError
from avst.grpo import LossConfig, Normaliser, policy_loss, step_tokens
from avst.grpo_sampling import SAMPLING_MODES, sampling_ratio
from tests.test_grpo import ADVANTAGES, COMPLETIONS, OLD, PROMPTS, REF
from tests.trl_reference import _padded, flat_logps, make_text_model, make_trl_trainer, trl_inputs

# What the sampler's log-probs are above those of the policy before the update. Ratios on both sides of 0.7 and 1.5,
# token by token and over a completion.
APART = [
    torch.tensor(v, dtype=torch.float64)
    for v in ([0.4, -0.5, 0.0, -0.1, 0.02], [0.3, 0.25], [-0.05], [-0.3, -0.6, 0.5, 0.05, -0.1, 0.0, -0.45, 0.2])
]


def trl_ratio(difference: torch.Tensor, mask: torch.Tensor, args: Any) -> torch.Tensor:
    """TRL's own lines between "importance sampling ratio when using vLLM" and "reference model", run as they are."""
    source = inspect.getsource(trl.GRPOTrainer._generate_and_score_completions)
    begin = source.index(
        "            if self.use_vllm and self.vllm_importance_sampling_correction:\n                mask ="
    )
    end = source.index("            # Compute the per-token log probabilities for the reference model")
    names: dict[str, Any] = {
        "self": SimpleNamespace(use_vllm=True, **{k: v for k, v in vars(args).items() if k.startswith("vllm_imp")}),
        "torch": torch,
        "math": math,
        "completion_mask": mask,
        "tool_mask": None,
        "old_per_token_logps": difference,
        "sampling_per_token_logps": torch.zeros_like(difference),
    }
    exec(textwrap.dedent(source[begin:end]), names)  # noqa: S102 - TRL's, as installed
    return names["vllm_importance_sampling_ratio"]


# dapo under all bounds, the others under one; TRL refuses vespo with a ratio for a whole completion, and so does avst
CASES = [
    *[("dapo", mode, bounds) for mode in SAMPLING_MODES for bounds in ((None, 1.5), (0.7, 1.5), (0.7, None))],
    *[(loss, mode, (0.7, 1.5)) for loss in ("grpo", "cispo") for mode in SAMPLING_MODES],
    *[("vespo", mode, (0.7, 1.5)) for mode in SAMPLING_MODES[:2]],
]


@pytest.mark.parametrize(("loss_type", "mode", "bounds"), CASES)
def test_loss_and_gradient_are_trls(
    tmp_path: Path, loss_type: str, mode: str, bounds: tuple[float | None, float | None]
) -> None:
    model, tokenizer = make_text_model(tmp_path)
    options = {
        "vllm_importance_sampling_mode": mode,
        "vllm_importance_sampling_clip_min": bounds[0],
        "vllm_importance_sampling_clip_max": bounds[1],
        "off_policy_mask_threshold": 0.05,
    }
    theirs = make_trl_trainer(model, tokenizer, tmp_path, loss_type=loss_type, beta=0.1, epsilon_high=0.3, **options)
    theirs.model.train()
    theirs.current_gradient_accumulation_steps = 1
    mine, _ = make_text_model(tmp_path)
    now, _, index = flat_logps(mine, PROMPTS, COMPLETIONS, theirs.temperature)
    old = now.detach() + torch.cat(OLD)
    ref, sampled = now.detach() + torch.cat(REF), old + torch.cat(APART)

    def by_completion(values: torch.Tensor) -> list[list[float]]:
        return [values[index == i].tolist() for i in range(len(PROMPTS))]

    inputs = trl_inputs(PROMPTS, COMPLETIONS, ADVANTAGES, old_logps=by_completion(old), ref_logps=by_completion(ref))
    difference, mask = _padded(by_completion(old - sampled), "right", torch.float64)
    inputs["importance_sampling_ratio"] = trl_ratio(difference, mask, theirs.args)
    inputs["sampling_per_token_logps"] = _padded(by_completion(sampled), "right", torch.float64)[0]
    theirs.use_vllm = True
    expected = theirs._compute_loss(theirs.model, inputs)
    tokens = step_tokens(torch.tensor(len(index)))
    config = LossConfig.of(theirs.args)
    out = policy_loss(now, old, ref, ADVANTAGES, index, config, Normaliser(1, tokens), sampled_logps_L=sampled)
    torch.testing.assert_close(out.loss, expected, rtol=1e-9, atol=1e-12)
    expected.backward()
    out.loss.backward()
    gradients = dict(theirs.model.named_parameters())
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-7, atol=1e-10)


# two completions of 2 and 1 tokens; old - sampled = ln 2, ln 0.5 | ln 4
OLD_L = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64)
SAMPLED_L = OLD_L - torch.tensor([2.0, 0.5, 4.0], dtype=torch.float64).log()
INDEX_L = torch.tensor([0, 0, 1])


@pytest.mark.parametrize(
    ("mode", "least", "most", "weights", "ratios"),
    [
        ("token_truncate", None, 3.0, [2.0, 0.5, 3.0], [2.0, 0.5, 3.0]),
        ("token_truncate", 0.8, 1.5, [1.5, 0.8, 1.5], [1.5, 0.8, 1.5]),
        ("token_mask", None, 3.0, [2.0, 0.5, 0.0], [2.0, 0.5, 0.0]),
        ("token_mask", 0.8, None, [2.0, 0.0, 4.0], [2.0, 0.0, 4.0]),
        ("sequence_truncate", None, 3.0, [1.0, 1.0, 3.0], [1.0, 3.0]),
        ("sequence_mask", None, 3.0, [1.0, 1.0, 0.0], [1.0, 0.0]),
        ("sequence_mask", None, None, [1.0, 1.0, 4.0], [1.0, 4.0]),
    ],
)
def test_ratios_worked_by_hand(
    mode: str, least: float | None, most: float | None, weights: list[float], ratios: list[float]
) -> None:
    found = sampling_ratio(OLD_L, SAMPLED_L, INDEX_L, 2, mode, least, most)
    for values, expected in zip(found, (weights, ratios), strict=True):
        torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


def test_what_is_logged_worked_by_hand() -> None:
    """A completion without tokens, the third, counts nowhere."""
    config = LossConfig(loss_type="bnpo", vllm_importance_sampling_clip_max=3.0)
    advantages = torch.ones(3, dtype=torch.float64)
    out = policy_loss(OLD_L, None, None, advantages, INDEX_L, config, Normaliser(), sampled_logps_L=SAMPLED_L)
    means = {name: mean.value for name, mean in out.means.items() if name.startswith("sampling/")}
    assert means == pytest.approx(
        {
            "sampling/sampling_logp_difference/mean": (2 * math.log(2) + math.log(4)) / 3,
            "sampling/importance_sampling_ratio/mean": 0.5,
        }
    )
    extremes = {name: float(value) for name, value in out.extremes.items() if name.startswith("sampling/")}
    assert extremes == pytest.approx(
        {
            "sampling/sampling_logp_difference/max": math.log(4),
            "sampling/importance_sampling_ratio/min": 0.0,
            "sampling/importance_sampling_ratio/max": 1.0,
        }
    )
    assert float(out.loss) == pytest.approx(-2 / 3)  # two tokens of ratio 1, one left out


def test_without_the_correction_the_loss_is_the_uncorrected_one() -> None:
    advantages = torch.tensor([1.0, -1.0], dtype=torch.float64)
    plain, left, corrected = (
        policy_loss(
            OLD_L,
            None,
            None,
            advantages,
            INDEX_L,
            LossConfig(loss_type="bnpo", vllm_importance_sampling_correction=correction),
            Normaliser(),
            sampled_logps_L=sampled,
        ).loss
        for correction, sampled in ((True, None), (False, SAMPLED_L), (True, SAMPLED_L))
    )
    assert plain == left != corrected


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(AvstError, match="'both' is none of token_truncate, token_mask"):
        LossConfig(vllm_importance_sampling_mode="both")
