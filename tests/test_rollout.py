"""The rollout draws what the library's own `generate` draws, for all prompts together and each prefilled once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avst.models.families import placeholder_ids, prompt_positions
from avst.models.packing import pack
from avst.prompt import PromptBuilder
from avst.rollout import Sampling, _Decoding, end_tokens, rollout
from avst.rollout_options import RolloutOptions
from avst.types import Group, Prompt
from tests.tiny_world import load_grouped, load_plain, make_builder, make_clip, make_question, plain_logps

KINDS = ("qwen2_5_vl", "qwen2_5_omni")
WAYS = {
    "as it is": RolloutOptions(),
    "repeated": RolloutOptions(share_prompts=False),
    "nobody leaves": RolloutOptions(drop_finished=False),
    "plain": RolloutOptions(share_prompts=False, drop_finished=False),
    "two rows at once": RolloutOptions(max_rows=2),
}


def prompts_of(builder: PromptBuilder) -> list[Prompt]:
    """Of several lengths: a long clip, a short one without sound, text alone, a very slow one."""
    return [
        builder.build(make_question(1), make_clip(5.0, seed=1)),
        builder.build(make_question(2, "Where is the man?"), make_clip(2.5, sound=False, seed=2, size=(56, 84))),
        builder.build_text(make_question(3, "Which of the two is louder, the man or the dog?")),
        builder.build(make_question(4), make_clip(240.0, sound=False, fps=0.05, size=(28, 28))),
    ]


def generate(model: Any, prompt: Prompt, sampling: Sampling, ends: Sequence[int], pad: int) -> list[int]:
    """The library's own greedy answer to one prompt, from its own tensors."""
    ids = prompt.input_ids[None]
    media = dict(prompt.media)
    if "input_features" in media:
        media["input_features"] = media["input_features"].to(model.dtype)
    config = sampling.generation_config(ends, pad)
    config.repetition_penalty = sampling.repetition_penalty
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=config,
        **media,
    )
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_plain_generate(tiny_folders: dict[str, Path], kind: str, penalty: float, way: str) -> None:
    folder = tiny_folders[kind]
    prompts = prompts_of(make_builder(folder))
    ours, plain = load_grouped(folder), load_plain(folder)
    sampling = Sampling(max_new_tokens=24, temperature=0, repetition_penalty=penalty)
    # the library's first choices after five tokens end an answer, so that rows end at different places
    free = [generate(plain, p, sampling, [0], 1) for p in prompts]
    ends = [free[0][5], free[1][9]]
    groups = rollout(ours, prompts, 2, sampling, ends, 1, WAYS[way])
    for prompt, group in zip(prompts, groups, strict=True):
        wanted = generate(plain, prompt, sampling, ends, 1)
        assert group.completion_ids == [wanted, wanted]
    assert len({len(g.completion_ids[0]) for g in groups}) > 1


def sampled(
    folder: Path,
    n: int,
    seed: int = 5,
    ends: Sequence[int] | None = None,
    options: RolloutOptions | None = None,
    **sampling: Any,
) -> tuple[Any, list[Group]]:
    model, builder = load_grouped(folder), make_builder(folder)
    known, pad = end_tokens(model, builder.processor.tokenizer)
    torch.manual_seed(seed)
    prompts = prompts_of(builder)
    return model, rollout(model, prompts, n, Sampling(**sampling), ends or known, pad, options)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
        {"temperature": 1.3, "repetition_penalty": 1.5, "min_p": 0.01},
    ],
    ids=["plain", "cut", "penalty"],
)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_sampled_logps_are_the_packed_forwards(
    tiny_folders: dict[str, Path], kind: str, way: str, sampling: dict[str, Any]
) -> None:
    """Whatever cuts the distribution, what is recorded is the policy's own log-prob at the temperature. Answers end at
    different places, so that rows leave the batch, and with them all answers of one prompt before those of another."""
    model, groups = sampled(
        tiny_folders[kind], 4, ends=range(0, 740, 6), options=WAYS[way], max_new_tokens=8, **sampling
    )
    assert len({len(ids) for g in groups for ids in g.completion_ids}) > 2
    row = pack(
        [g.prompt for g in groups],
        [g.completion_ids for g in groups],
        [prompt_positions(model, g.prompt) for g in groups],
    )
    with torch.no_grad():
        packed = model(packed=row, temperature=sampling["temperature"])["logps"]
    recorded = torch.tensor([x for g in groups for one in g.sampled_logps for x in one])
    torch.testing.assert_close(recorded.double(), packed, rtol=1e-5, atol=1e-5)  # generate samples in float32
    plain, media = load_plain(tiny_folders[kind]), set(placeholder_ids(model.config).values())
    one = groups[0].completion_ids[0]
    assert not set(one) & media
    with torch.no_grad():
        wanted = plain_logps(plain, groups[0].prompt, one, sampling["temperature"])
    torch.testing.assert_close(torch.tensor(groups[0].sampled_logps[0]).double(), wanted, rtol=1e-5, atol=1e-5)


def test_ends_are_kept_and_padding_is_not(tiny_folders: dict[str, Path]) -> None:
    """Every sixth token ends an answer: a completion holds one at its end, or none and is truncated."""
    ends = set(range(0, 740, 6))
    _, groups = sampled(tiny_folders["qwen2_5_omni"], 8, ends=sorted(ends), max_new_tokens=8)
    rows = [
        (ids, logps, cut)
        for g in groups
        for ids, logps, cut in zip(g.completion_ids, g.sampled_logps, g.truncated, strict=True)
    ]
    for ids, logps, cut in rows:
        assert len(ids) == len(logps)
        assert not ends & set(ids[:-1])
        assert (ids[-1] not in ends) == cut
        assert len(ids) == 8 if cut else len(ids) <= 8
        assert all(x < 0 for x in logps), "a padded step has log-prob 0"
    assert any(cut for *_, cut in rows)
    assert any(not cut for *_, cut in rows)


def test_a_pad_token_that_was_sampled_is_part_of_the_answer(tiny_folders: dict[str, Path]) -> None:
    """Where padding and an end token are one (as in Qwen), the first stays and the filling goes."""
    model, builder = load_grouped(tiny_folders["qwen2_5_vl"]), make_builder(tiny_folders["qwen2_5_vl"])
    ends, pad = end_tokens(model, builder.processor.tokenizer)
    vocabulary = builder.processor.tokenizer.get_vocab()
    assert ends == sorted([vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]])
    assert pad == vocabulary["<|endoftext|>"]
    hook = model.lm_head.register_forward_hook(lambda module, inputs, logits: _with_third(logits, pad))
    torch.manual_seed(0)
    groups = rollout(model, prompts_of(builder), 16, Sampling(max_new_tokens=8), ends, pad)
    hook.remove()
    ended = [ids for g in groups for ids, cut in zip(g.completion_ids, g.truncated, strict=True) if not cut]
    assert sum(ids[-1] == pad for ids in ended) > 2
    assert all(ids.count(pad) <= 1 for ids in ended)


def _with_third(logits: Tensor, token: int) -> Tensor:
    """Logits that give a third of the probability to `token` and the rest to all others alike."""
    flat = torch.zeros_like(logits)
    flat[..., token] = torch.tensor(0.5 * (logits.shape[-1] - 1)).log()
    return flat


def test_a_seed_gives_the_same_answers(tiny_folders: dict[str, Path]) -> None:
    runs = [sampled(tiny_folders["qwen2_5_omni"], 3, seed=seed, max_new_tokens=6)[1] for seed in (5, 5, 6)]
    ids = [[g.completion_ids for g in run] for run in runs]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
    assert len({tuple(one) for one in ids[0][0]}) == 3, "siblings are drawn one by one"


def test_a_checkpoints_own_settings_do_not_leak_in(tiny_folders: dict[str, Path]) -> None:
    """Released checkpoints bring a generation config (Qwen2.5-VL: a repetition penalty and a temperature near 0)."""
    model, builder = load_grouped(tiny_folders["qwen2_5_vl"]), make_builder(tiny_folders["qwen2_5_vl"])
    prompts, ends = prompts_of(builder), list(range(0, 740, 6))
    drawn = []
    for settings in (
        {},
        {"repetition_penalty": 1.5, "min_new_tokens": 8, "min_p": 0.5, "top_k": 1, "temperature": 0.1},
    ):
        for name, value in settings.items():
            setattr(model.generation_config, name, value)
        torch.manual_seed(2)
        drawn.append([g.completion_ids for g in rollout(model, prompts, 4, Sampling(max_new_tokens=8), ends, 1)])
        assert all(getattr(model.generation_config, name) == value for name, value in settings.items())
    assert drawn[0] == drawn[1]


def test_first_tokens_follow_the_softmax(tiny_folders: dict[str, Path]) -> None:
    """Chi-square over the likely first tokens, the rest in one bin: 4000 draws for each of two prompts."""
    folder = tiny_folders["qwen2_5_vl"]
    model, builder = load_grouped(folder, torch.float32), make_builder(folder)
    prompts = prompts_of(builder)[1:3]
    torch.manual_seed(1)
    n = 4000
    groups = rollout(model, prompts, n, Sampling(max_new_tokens=1, temperature=0.8), [0], 1)
    for prompt, group in zip(prompts, groups, strict=True):
        wanted = _first_token(load_plain(folder), prompt, 0.8) * n
        counts = torch.bincount(torch.tensor([ids[0] for ids in group.completion_ids]), minlength=len(wanted))
        likely = wanted >= 10
        seen = torch.cat([counts[likely], counts[~likely].sum()[None]]).double()
        expected = torch.cat([wanted[likely], wanted[~likely].sum()[None]])
        chi_square = float(((seen - expected) ** 2 / expected).sum())
        freedom = int(likely.sum())
        assert freedom > 10
        assert chi_square < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


def _first_token(plain: Any, prompt: Prompt, temperature: float) -> Tensor:
    ids = prompt.input_ids[None]
    with torch.no_grad():
        logits = plain(input_ids=ids, attention_mask=torch.ones_like(ids), **prompt.media).logits[0, -1]
    return (logits / temperature).softmax(-1)


def test_ended_answers_leave_the_batch(tiny_folders: dict[str, Path]) -> None:
    """Rows that enter the language model, token by token: half of them leave when half have ended, and not before."""
    folder = tiny_folders["qwen2_5_vl"]
    model, builder = load_grouped(folder), make_builder(folder)
    prompts = prompts_of(builder)[1:3]
    rows: list[int] = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    torch.manual_seed(0)
    sampling = Sampling(max_new_tokens=40)
    (first, second) = rollout(model, prompts, 8, sampling, range(0, 740, 9), 1)
    lengths = [len(ids) for ids in first.completion_ids + second.completion_ids]
    expected, here = [1, 1], 16  # each prompt alone, then all answers
    for step in range(1, max(lengths) + 1):
        expected.append(here)
        going = sum(length > step for length in lengths)
        if 2 * going <= here:
            here = going
    assert rows == expected
    assert len(set(expected[2:])) > 3


def test_a_shared_cache_holds_every_prompt_once(tiny_folders: dict[str, Path]) -> None:
    """Numbers kept behind two tokens of 2 x 3 answers, for one layer: the prompts' states once, the answers' own."""
    folder = tiny_folders["qwen2_5_vl"]
    model, builder = load_grouped(folder), make_builder(folder)
    prompts = prompts_of(builder)[1:3]
    config = model.config.get_text_config()
    heads, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    longest = max(int(p.input_ids.numel()) for p in prompts) - 1  # the last token is the answers' first query
    decoding = _Decoding(model, prompts, 3, share=True)
    decoding.run(Sampling(max_new_tokens=2), [5], 1, drop_finished=False)
    layer = decoding.cache.layers[0]
    assert layer.prompt_keys.numel() == 2 * heads * longest * size
    assert layer.keys[:, :, : layer.tokens].numel() == 6 * heads * 2 * size
    plain = _Decoding(model, prompts, 3, share=False)
    plain.run(Sampling(max_new_tokens=2), [5], 1, drop_finished=False)
    assert plain.cache.layers[0].keys.numel() == 6 * heads * (longest + 2) * size
