"""One packed forward of several groups equals the library's own forward, one row an answer, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig

from avst.models.families import model_class, placeholder_ids, prompt_positions
from avst.models.features import media_features
from avst.models.loading import freeze_towers, lora_config
from avst.models.packing import PackedRow, pack
from avst.models.policy import understand_groups
from avst.prompt import PromptBuilder
from avst.reference import Reference
from avst.rollout import Sampling, end_tokens, rollout
from avst.types import Prompt
from tests.tiny_world import (
    load_grouped,
    load_plain,
    make_builder,
    make_clip,
    make_question,
    plain_logps,
    text_tokens,
)

KINDS = ("qwen2_5_vl", "qwen2_5_omni")
Groups = tuple[list[Prompt], list[list[list[int]]]]


def video(builder: PromptBuilder) -> Groups:
    """One group; Omni hears the clip as well."""
    prompt = builder.build(make_question(), make_clip(5.0))
    return [prompt], [[text_tokens(prompt, n, n) for n in (5, 1, 9)]]


def mixed(builder: PromptBuilder) -> Groups:
    """Long and short clips, a silent one, text alone (and sound alone) in one row; answers of all lengths."""
    prompts = [
        builder.build(make_question(1), make_clip(5.0, seed=1)),
        builder.build(make_question(2, "Where is the man?"), make_clip(2.5, sound=False, seed=2, size=(56, 84))),
        builder.build_text(make_question(3, "Which of the two is louder, the man or the dog?")),
        builder.build(make_question(4), make_clip(3.5, seed=4)),
    ]
    lengths = [(2, 7), (1, 1, 4), (3,), (6, 2)]
    if builder.family.hears:
        prompts.append(builder.build_audio(make_question(5), make_clip(3.0, seed=5)))
        lengths.append((5, 3))
    answers = [
        [text_tokens(p, n, 10 * i + n) for n in each] for i, (p, each) in enumerate(zip(prompts, lengths, strict=True))
    ]
    return prompts, answers


def slow(builder: PromptBuilder) -> Groups:
    """A long clip at a slow clock, in small frames: time runs past the positions of the text behind it (in VL)."""
    prompt = builder.build(make_question(), make_clip(240.0, sound=False, fps=0.05, size=(28, 28)))
    return [prompt], [[text_tokens(prompt, n, n) for n in (4, 2)]]


CASES: dict[str, Callable[[PromptBuilder], Groups]] = {"video": video, "mixed": mixed, "slow": slow}


def row_of(model: Any, groups: Groups) -> PackedRow:
    prompts, answers = groups
    return pack(prompts, answers, [prompt_positions(model, prompt) for prompt in prompts])


def repeated(model: Any, groups: Groups, temperature: float = 1.0) -> Tensor:
    return torch.cat(
        [plain_logps(model, p, a, temperature) for p, answers in zip(*groups, strict=True) for a in answers]
    )


def gradients(model: nn.Module, logps: Tensor) -> dict[str, Tensor]:
    """Of a sum in which every token weighs something else."""
    weights = torch.randn(len(logps), generator=torch.manual_seed(3), dtype=logps.dtype)
    model.zero_grad()
    (logps * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], rtol: float = 1e-6) -> None:
    assert ours.keys() == theirs.keys()
    difference = torch.stack([(ours[n] - theirs[n]).norm() for n in theirs]).norm()
    whole = torch.stack([g.norm() for g in theirs.values()]).norm()
    assert whole > 1e-3
    assert difference <= rtol * whole
    # no part is wrong in the shadow of a larger one
    for name, theirs_n in theirs.items():
        if theirs_n.norm() > 1e-6 * whole:
            assert (ours[name] - theirs_n).norm() <= 1e-4 * theirs_n.norm(), name


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_repeated(tiny_folders: dict[str, Path], kind: str, case: str, checkpointing: bool) -> None:
    folder = tiny_folders[kind]
    groups = CASES[case](make_builder(folder))
    ours, theirs = load_grouped(folder).train(), load_plain(folder).train()
    if checkpointing:
        ours.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        assert any(getattr(m, "gradient_checkpointing", False) for m in ours.model.language_model.modules())
    packed = ours(packed=row_of(ours, groups), temperature=0.7)["logps"]
    wanted = repeated(theirs, groups, 0.7)
    torch.testing.assert_close(packed, wanted, rtol=1e-6, atol=1e-9)
    assert wanted.std() > 0.1, "the model says the same of every token, so nothing is tested"
    assert_same_gradients(gradients(ours, packed), gradients(theirs, wanted))


def test_the_slow_clip_is_a_case_of_its_own(tiny_folders: dict[str, Path]) -> None:
    """In VL its largest position is not that of the prompt's last token."""
    folder = tiny_folders["qwen2_5_vl"]
    (prompt,), _ = slow(make_builder(folder))
    positions = prompt_positions(load_plain(folder), prompt)
    assert positions.max() > positions[:, -1].max() + 20


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_entropies_and_base_implementations(tiny_folders: dict[str, Path], attention: str) -> None:
    """Entropies equal those of the whole distribution; both bases compute the same sums."""
    folder = tiny_folders["qwen2_5_omni"]
    groups = mixed(make_builder(folder))
    plain = load_plain(folder)
    ours = understand_groups(load_plain(folder), attention)
    with torch.no_grad():
        out = ours(packed=row_of(ours, groups))
        wanted = [_entropies(plain, p, answer) for p, answers in zip(*groups, strict=True) for answer in answers]
    torch.testing.assert_close(out["logps"], repeated(plain, groups).detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(out["entropies"], torch.cat(wanted), rtol=1e-6, atol=1e-9)


def _entropies(model: Any, prompt: Prompt, answer: list[int]) -> Tensor:
    """-Σ p log p at every token of an answer, from the plain forward's logits, caught at the head."""
    seen: list[Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    plain_logps(model, prompt, answer)
    hook.remove()
    logps = seen[0][0, len(prompt.input_ids) - 1 : -1].log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_lora(tiny_folders: dict[str, Path], kind: str) -> None:
    """With adapters on the language model, also under checkpointing; the adapters alone have gradients."""
    folder = tiny_folders[kind]
    groups = mixed(make_builder(folder))
    ours, theirs = (_with_adapters(load(folder)) for load in (load_grouped, load_plain))
    ours.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    packed, wanted = ours(packed=row_of(ours.get_base_model(), groups))["logps"], repeated(theirs, groups)
    torch.testing.assert_close(packed, wanted, rtol=1e-6, atol=1e-9)
    found = gradients(ours, packed)
    assert all("lora_" in name for name in found)
    assert_same_gradients(found, gradients(theirs, wanted))
    with ours.disable_adapter(), torch.no_grad():
        bare = ours(packed=row_of(ours.get_base_model(), groups))["logps"]
        torch.testing.assert_close(bare, repeated(load_plain(folder), groups), rtol=1e-6, atol=1e-9)
    assert (bare - packed).abs().max() > 0.01


def _with_adapters(model: Any) -> PeftModel:
    peft = get_peft_model(model, lora_config(model, r=4, alpha=8)).train()
    generator = torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2)
    return peft.double()  # peft makes adapters in float32


def test_siblings_do_not_see_each_other(tiny_folders: dict[str, Path]) -> None:
    """Another sibling, or another group, changes no bit of what an answer is given."""
    folder = tiny_folders["qwen2_5_omni"]
    model = load_grouped(folder)
    prompts, answers = mixed(make_builder(folder))
    changed = [[list(a) for a in each] for each in answers]
    changed[0][1] = [t + 1 for t in changed[0][1]]
    with torch.no_grad():
        one, two = (model(packed=row_of(model, (prompts, a)))["logps"] for a in (answers, changed))
    start, end = len(answers[0][0]), len(answers[0][0]) + len(answers[0][1])
    assert (one[start:end] - two[start:end]).abs().min() > 1e-6
    two[start:end] = one[start:end]
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_media_tokens_are_plain_tokens(tiny_folders: dict[str, Path], kind: str) -> None:
    """A policy may sample a placeholder; it then stands for itself. The plain forward would take it for media, so the
    comparison feeds the language model the prompt's embeddings and positions, caught from the library's own forward,
    with the answer's token embeddings behind them."""
    folder = tiny_folders[kind]
    prompt = make_builder(folder).build(make_question(), make_clip())
    ours, plain = load_grouped(folder), load_plain(folder)
    media = list(placeholder_ids(plain.config).values())
    answer = [media[0], *text_tokens(prompt, 2, 0), media[1], media[-1], *text_tokens(prompt, 1, 1)]
    caught: dict[str, Any] = {}
    hook = plain.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: caught.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        plain_logps(plain, prompt, text_tokens(prompt, 1, 0))
        hook.remove()
        n = len(prompt.input_ids)
        tail = torch.tensor(answer)
        positions = caught["position_ids"][-3:, :, :n]
        behind = int(positions.max()) + 1 + torch.arange(len(answer))
        hidden = plain.model.language_model(
            inputs_embeds=torch.cat([caught["inputs_embeds"][:, :n], plain.get_input_embeddings()(tail)[None]], dim=1),
            position_ids=torch.cat([positions, behind.expand(3, 1, -1)], dim=2),
        ).last_hidden_state[0, n - 1 : -1]
        wanted = plain.lm_head(hidden).log_softmax(-1).gather(-1, tail[:, None]).squeeze(-1)
        packed = ours(packed=row_of(ours, ([prompt], [[answer, text_tokens(prompt, 3, 2)]])))["logps"]
    torch.testing.assert_close(packed[: len(answer)], wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_towers_keep_their_attention(tiny_folders: dict[str, Path], kind: str) -> None:
    """Set on the text config alone: the towers' implementation is the library's, and frames of several windows give
    what an eager tower with its window masks gives."""
    folder = tiny_folders[kind]
    ours = load_grouped(folder)
    assert ours.model.language_model.config._attn_implementation == "group_sdpa"
    assert ours.model.visual.config._attn_implementation == "sdpa"
    eager = model_class(AutoConfig.from_pretrained(folder)).from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    )
    if (ears := getattr(ours.model, "audio_tower", None)) is not None:
        assert ears.config._attn_implementation == "sdpa"
    large = make_clip(2.0, size=(168, 140))  # windows are 112 px wide
    prompt = make_builder(folder).build(make_question(), large)
    features = media_features(ours, prompt, "video")
    with torch.no_grad():
        pixels, grid = prompt.media["pixel_values_videos"], prompt.media["video_grid_thw"]
        wanted = torch.cat(eager.model.get_video_features(pixels, grid, return_dict=True).pooler_output)
        eager.model.visual.fullatt_block_indexes = list(range(2))  # every block sees the whole frame
        without = torch.cat(eager.model.get_video_features(pixels, grid, return_dict=True).pooler_output)
    torch.testing.assert_close(features, wanted, rtol=1e-6, atol=1e-9)
    assert (wanted - without).abs().max() > 1e-4, "the windows make no difference, so nothing is tested"


class Calls:
    """Counts how often each tower of a model, or of a copy of it, runs."""

    def __init__(self, model: Any) -> None:
        self.n = {"visual": 0, "audio_tower": 0}
        for name in self.n:
            if (tower := getattr(model.model, name, None)) is not None:
                tower.register_forward_hook(lambda *_, name=name: self._count(name))

    def _count(self, name: str) -> None:
        self.n[name] += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Calls:
        return self


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trained"])
def test_features_of_frozen_towers_are_computed_once(tiny_folders: dict[str, Path], frozen: bool) -> None:
    """Once over rollout, policy and reference, and for the questions that share the clip; a tower that trains runs in
    each of them."""
    folder = tiny_folders["qwen2_5_omni"]
    model = load_grouped(folder)
    if frozen:
        freeze_towers(model, ["vision", "audio", "connector"])
    calls = Calls(model)
    reference = Reference(model)
    builder = make_builder(folder)
    prompts = builder.build_all([make_question(0), make_question(1, "Where is it?")], make_clip())
    ends, pad = end_tokens(model, builder.processor.tokenizer)
    groups = rollout(model, prompts, 2, Sampling(max_new_tokens=3), ends, pad)
    row = pack(prompts, [g.completion_ids for g in groups], [prompt_positions(model, p) for p in prompts])
    logps = model(packed=row)["logps"]
    torch.testing.assert_close(reference.logps(model, model, row, 1.0), logps.detach())
    assert logps.requires_grad
    # rollout + policy for two prompts; the reference, frozen as a whole, looks its own features up: once for the clip
    assert calls.n == ({"visual": 1, "audio_tower": 1} if frozen else {"visual": 5, "audio_tower": 5})


@pytest.mark.parametrize("kind", KINDS)
def test_float32_weights_computed_in_bfloat16(tiny_folders: dict[str, Path], kind: str) -> None:
    """model.dtype=float32 with grpo.bf16=true: queries and keys come in float32, values in bfloat16. As near to
    float32's log-probs as the library's own forward is under the same autocast."""
    folder = tiny_folders[kind]
    groups = video(make_builder(folder))
    ours, plain = load_grouped(folder, torch.float32).eval(), load_plain(folder, torch.float32).eval()
    with torch.no_grad():
        wanted = repeated(plain, groups)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = repeated(plain, groups)
            found = ours(packed=row_of(ours, groups))["logps"]
            prompts, _ = groups
            written = rollout(ours, prompts, 2, Sampling(max_new_tokens=4), [10**6], 0)
    assert (found - wanted).abs().mean() <= 2 * (theirs.float() - wanted).abs().mean()
    assert [len(ids) for ids in written[0].completion_ids] == [4, 4]
