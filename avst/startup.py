"""Does training see what generation saw? Checked on the first group of a run; a mismatch ends the run.

Three computations of the same log-probs: the rollout's own (cache, one token at a time), the packed training forward,
and the library's plain forward over [prompt | answer] with the processor's tensors, which works out positions,
seconds per grid and the interleaving of audio and video for itself.
"""

from __future__ import annotations

from itertools import takewhile

import torch
from torch import Tensor
from transformers import PreTrainedModel

from avst.errors import AvstError
from avst.models.families import prompt_positions
from avst.models.packing import pack
from avst.types import Group, Prompt

# mean |difference| of a token's log-prob that different kernels may make; a wrong position or clock makes far more
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
# the same for what another program sampled (vLLM, in a precision of its own): more is another model or another clip
TOLERANCE_ELSEWHERE = 0.2


@torch.no_grad()
def check_paths(
    model: PreTrainedModel,
    group: Group,
    temperature: float,
    computed_in: torch.dtype | None = None,
    elsewhere: bool | None = None,
) -> dict[str, float]:
    """Mean absolute differences to the packed forward, by path; AvstError if one is above the dtype's tolerance.

    model: in evaluation mode, still the policy that sampled `group`;  computed_in: the forward pass's precision where
    it is not that of the weights (autocast);  elsewhere: another program sampled, and its log-probs are those of the
    policy at its temperature (True) or those after tokens were cut off (False), which cannot be compared.
    """
    temperature = temperature or 1.0
    row = pack([group.prompt], [group.completion_ids], [prompt_positions(model, group.prompt)])
    packed: Tensor = model(packed=row, temperature=temperature)["logps"].cpu()
    sampled = torch.tensor([logp for one in group.sampled_logps for logp in one])
    gaps = {"rollout": float((packed - sampled).abs().mean())}
    answer, which = _plain_beginning(model, group)
    if answer:
        plain = _plain_logps(model, group.prompt, answer, temperature).cpu()
        gaps["plain forward"] = float((packed.split(row.lengths)[which][: len(answer)] - plain).abs().mean())
    precision = computed_in or model.dtype
    bounds = dict.fromkeys(gaps, (TOLERANCE.get(precision, 0.1), f"numerical noise in {precision}"))
    if elsewhere is not None:
        most = max(bounds["rollout"][0], TOLERANCE_ELSEWHERE) if elsewhere else float("inf")
        bounds["rollout"] = most, "what another program's kernels and precision make"
    for path, gap in gaps.items():
        bound, noise = bounds[path]
        if not gap <= bound:  # NaN is a mismatch too
            raise AvstError(
                f"{group.prompt.question.id}: training and generation do not see the same prompt: log-probs of the "
                f"packed forward and of the {path} are {gap:.3g} apart a token; at most {bound:g} is {noise}"
            )
    return gaps


def _plain_beginning(model: PreTrainedModel, group: Group) -> tuple[list[int], int]:
    """The longest beginning of an answer without media marks, and which answer it is: the plain forward would take
    marks that the policy happened to sample for another clip, and look for it."""
    marks = {value for name, value in model.config.to_dict().items() if _is_mark(name)}
    beginnings = [list(takewhile(lambda token: token not in marks, ids)) for ids in group.completion_ids]
    which = max(range(len(beginnings)), key=lambda i: len(beginnings[i]))
    return beginnings[which], which


def _is_mark(name: str) -> bool:
    return name.endswith(("_token_id", "_token_index")) and name.split("_")[0] in ("image", "video", "audio", "vision")


def _plain_logps(model: PreTrainedModel, prompt: Prompt, answer: list[int], temperature: float) -> Tensor:
    """(C,) log-probs of one answer by the model's own forward, positions and all."""
    tail = torch.tensor(answer, device=model.device)
    ids = torch.cat([prompt.input_ids.reshape(-1).to(model.device), tail])[None]
    media = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in prompt.media.items()}
    if (kinds := media.get("mm_token_type_ids")) is not None:
        media["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(1, len(answer))], dim=1)
    for key, value in media.items():
        if isinstance(value, Tensor) and value.is_floating_point() and "second" not in key:
            media[key] = value.to(model.dtype)
    stale = model.model.rope_deltas
    # the head on the answer alone: all logits of a long clip's prompt would be gigabytes (Omni has no logits_to_keep)
    short = model.lm_head.register_forward_pre_hook(lambda head, states: (states[0][:, -len(answer) - 1 :],))
    try:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **media).logits[0]
    finally:
        short.remove()
        model.model.rope_deltas = stale
    scores = logits[:-1]
    scores = (scores if scores.dtype == torch.float64 else scores.float()) / temperature
    return scores.log_softmax(-1).gather(-1, tail[:, None]).squeeze(-1)
