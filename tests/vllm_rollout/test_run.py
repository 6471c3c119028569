"""Whole training runs whose answers a stand-in for vLLM writes, beside runs that never leave the process."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from avst.data import Skipped
from avst.models.families import unwrapped
from avst.rollout import Sampling
from avst.trainer import GRPOTrainer
from avst.types import Group, Prompt
from avst.vllm_rollout import build
from avst.vllm_rollout.colocated import Colocated
from avst.vllm_rollout.engine import Drawing
from avst.vllm_rollout.sampler import VllmSampler
from avst.vllm_rollout.weights import PolicyWeights
from tests.grpo_world import QUESTIONS, G, logged, make_trainer, weights
from tests.tiny_world import load_grouped, make_builder, make_clip, plain_logps
from tests.vllm_rollout.standin import StandIn
from tests.vllm_rollout.tiny_vllm import FakeLLM, TinyVllm, seeded

PREFIX = {"qwen2_5_vl": "", "qwen2_5_omni": "thinker."}
TOWERS = ("visual.", "audio_tower.")
ADAPTED = r".*language_model.*(q_proj|down_proj)"
FROZEN = ("vision", "audio", "connector")


class Direct(GRPOTrainer):
    """Answers drawn in this process under the seeds that a request would carry: the run to compare with."""

    def _make_sampler(self) -> Any:
        return self

    elsewhere = True

    def follow(self, policy: Any, step: int) -> None:
        pass

    def rest(self) -> None:
        pass

    def sample(self, model: Any, prompts: Sequence[Prompt]) -> list[Group]:
        seeds = torch.randint(2**31 - 1, (len(prompts),)).tolist()
        return [
            seeded(model, prompt, self.num_generations, self.sampling, self.end_ids, seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


class Kept(GRPOTrainer):
    """Keeps the groups of its rollouts."""

    kept: list[Group]

    def _sample(self, model: Any, prompts: list[Prompt]) -> list[Group]:
        self.kept = super()._sample(model, prompts)
        return self.kept


def near(llm: FakeLLM) -> type[GRPOTrainer]:
    """A trainer with `llm` in its process, which sleeps between rollouts."""

    class Near(GRPOTrainer):
        def _make_sampler(self) -> Any:
            drawing = Drawing(self.num_generations, self.sampling, tuple(self.end_ids))
            return VllmSampler(Colocated(llm, SimpleNamespace, sleeps=True), drawing, 10**6, self.accelerator)

    return Near


def rows(folder: Path, kind: str) -> list[Prompt]:
    """Text, a silent clip, a clip with sound, and for a model that hears a sound alone."""
    builder = make_builder(folder, keep_shown=True)
    found = [
        builder.build_text(QUESTIONS[0]),
        builder.build(QUESTIONS[1], make_clip(2.0, sound=False)),
        builder.build(QUESTIONS[2], make_clip(3.0, seed=1, fps=18 / 7)),
    ]
    last = builder.build_audio if kind == "qwen2_5_omni" else builder.build
    return [*found, last(QUESTIONS[3], make_clip(2.0, seed=2))]


def run(
    folder: Path,
    out: Path,
    kind: str,
    trainer_class: type[GRPOTrainer],
    lora: bool = False,
    freeze: Sequence[str] = FROZEN,
    **options: Any,
) -> GRPOTrainer:
    """Three steps of two prompts each, trained. The third has the clips of the first."""
    trainer = make_trainer(
        folder,
        out,
        rows(folder, kind),
        trainer_class=trainer_class,
        builder=make_builder(folder, keep_shown=True),
        peft_config=LoraConfig(r=2, target_modules=ADAPTED, init_lora_weights=False) if lora else None,
        freeze=[tower for tower in freeze if tower != "audio" or kind == "qwen2_5_omni"],
        **({"max_steps": 3, "gradient_accumulation_steps": 2, "max_completion_length": 6} | options),
    )
    trainer.train()
    return trainer


@pytest.fixture
def over_http(monkeypatch: pytest.MonkeyPatch) -> Any:
    """standin -> GRPOConfig's options of a run through it; its tensors go the stand-in's way in place of NCCL's."""

    def options(standin: StandIn) -> dict[str, Any]:
        monkeypatch.setattr(build, "nccl_channel", lambda url, port, device: standin.channel)
        return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": standin.url}

    return options


def merged(trainer: GRPOTrainer) -> dict[str, torch.Tensor]:
    """The trained weights, adapters merged by peft, under the names that vLLM's mapper ends at."""
    model = copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model))
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("kind", "lora"), [("qwen2_5_omni", True), ("qwen2_5_vl", False)])
def test_a_run_over_http_is_the_run_in_process(
    tiny_folders: dict[str, Path], tmp_path: Path, over_http: Any, kind: str, lora: bool
) -> None:
    folder = tiny_folders[kind]
    torch.manual_seed(0)
    plain = run(folder, tmp_path / "plain", kind, Direct, lora)
    tiny = TinyVllm(folder, PREFIX[kind])
    with torch.no_grad():
        tiny.model.lm_head.weight.zero_()  # whatever the server was started with is replaced
    with StandIn(tiny).running() as standin:
        torch.manual_seed(0)
        served = run(folder, tmp_path / "served", kind, GRPOTrainer, lora, **over_http(standin))
    expected = weights(plain)
    for name, weight in weights(served).items():
        assert torch.equal(weight, expected[name]), name
    assert logged(served, "loss") == logged(plain, "loss")
    assert any(loss != 0 for loss in logged(served, "loss"))
    assert logged(served, "sampling/importance_sampling_ratio/mean") == pytest.approx([1.0] * 3, abs=1e-6)
    # what was sent: everything once, then what training changes, once a step
    assert standin.paths.count("/reset_encoder_cache") == 1, "frozen towers make the same of a clip for ever"
    first, *later = tiny.loaded
    assert {name.removeprefix(PREFIX[kind]).split(".")[0] for name in first} >= {"model", "lm_head", "visual"}
    assert len(later) == 2
    for names in later:
        inner = [name.removeprefix(PREFIX[kind]) for name in names]
        assert not [name for name in inner if name.startswith(TOWERS)]
        assert [name for name in inner if "q_proj" in name]
        if lora:
            assert all("q_proj" in name or "down_proj" in name for name in inner)


@pytest.mark.parametrize(("kind", "lora"), [("qwen2_5_omni", True), ("qwen2_5_vl", False)])
def test_the_server_has_the_weights_of_the_step(
    tiny_folders: dict[str, Path], tmp_path: Path, over_http: Any, kind: str, lora: bool
) -> None:
    """After the last step and one more update, the stand-in's weights are the trainer's, adapters merged by peft."""
    tiny = TinyVllm(tiny_folders[kind], PREFIX[kind])
    with StandIn(tiny).running() as standin:
        trainer = run(tiny_folders[kind], tmp_path, kind, GRPOTrainer, lora, **over_http(standin), max_steps=1)
        before = merged(trainer)
        stale = [name for name, p in tiny.model.named_parameters() if not torch.equal(p, before[name])]
        trainer.sampler.follow(trainer.accelerator.unwrap_model(trainer.model), 1)
        trainer.sampler.follow(trainer.accelerator.unwrap_model(trainer.model), 1)
    assert stale, "the step changed nothing"
    assert len(tiny.loaded) == 2, "the same step is sent once"
    for name, parameter in tiny.model.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=1e-15)
    now = merged(trainer)
    assert all(torch.equal(now[name], before[name]) for name in now), "sending leaves the policy as it is"
    base = dict(load_grouped(tiny_folders[kind]).named_parameters())
    for name, parameter in unwrapped(trainer.model).named_parameters():
        if ".base_layer." in name:
            assert torch.equal(parameter, base[name.replace(".base_layer.", ".")])


def test_a_sampler_that_is_not_the_policy_is_measured_and_corrected(
    tiny_folders: dict[str, Path], tmp_path: Path, over_http: Any
) -> None:
    """Its weights are a little off: what is logged is worked out here from the library's plain forward."""
    kind = "qwen2_5_vl"
    folder = tiny_folders[kind]
    tiny, ended = TinyVllm(folder), {}
    tiny.noise = 2e-3
    with StandIn(tiny).running() as standin:
        for correction in (True, False):
            torch.manual_seed(0)
            trainer = run(
                folder,
                tmp_path / str(correction),
                kind,
                Kept,
                **over_http(standin),
                max_steps=1,
                vllm_importance_sampling_correction=correction,
                vllm_importance_sampling_mode="token_truncate",
                vllm_importance_sampling_clip_max=1.005,
            )
            ended[correction] = trainer
    assert isinstance(trainer, Kept)
    model = load_grouped(folder)
    gaps = []
    with torch.no_grad():
        for group in trainer.kept:
            for ids, sampled in zip(group.completion_ids, group.sampled_logps, strict=True):
                gaps += (plain_logps(model, group.prompt, ids) - torch.tensor(sampled)).tolist()
    [difference] = logged(ended[True], "sampling/sampling_logp_difference/mean")
    assert difference == pytest.approx(sum(map(abs, gaps)) / len(gaps), abs=1e-6)
    assert logged(ended[True], "sampling/sampling_logp_difference/max") == [
        pytest.approx(max(map(abs, gaps)), abs=1e-6)
    ]
    ratios = [min(math.exp(gap), 1.005) for gap in gaps]
    for name, value in (("mean", sum(ratios) / len(ratios)), ("min", min(ratios)), ("max", 1.005)):
        assert logged(ended[True], f"sampling/importance_sampling_ratio/{name}") == [pytest.approx(value, abs=1e-6)]
    assert min(ratios) < 0.999
    assert not logged(ended[False], "sampling/importance_sampling_ratio/mean")
    left, right = (weights(ended[correction]) for correction in (True, False))
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_a_colocated_vllm_is_asked_and_put_to_sleep(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    kind = "qwen2_5_omni"
    folder = tiny_folders[kind]
    torch.manual_seed(0)
    plain = run(folder, tmp_path / "plain", kind, Direct, lora=True, max_steps=2, num_iterations=2)
    llm = FakeLLM(TinyVllm(folder, PREFIX[kind]))

    torch.manual_seed(0)
    served = run(folder, tmp_path / "near", kind, near(llm), lora=True, max_steps=2, num_iterations=2)
    expected = weights(plain)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(served).items())
    assert llm.calls == ["forget", "reset", "generate", "sleep"]  # two updates of one rollout


@pytest.mark.parametrize("colocated", [False, True])
def test_what_old_towers_made_of_a_clip_is_forgotten(
    tiny_folders: dict[str, Path], tmp_path: Path, over_http: Any, colocated: bool
) -> None:
    """All towers learn, and the first step's clip comes again in the third: the run that never left the process."""
    kind = "qwen2_5_vl"
    folder = tiny_folders[kind]
    tiny = TinyVllm(folder)
    torch.manual_seed(0)
    plain = run(folder, tmp_path / "plain", kind, Direct, freeze=())
    torch.manual_seed(0)
    if colocated:
        served = run(folder, tmp_path / "served", kind, near(FakeLLM(tiny)), freeze=())
    else:
        with StandIn(tiny).running() as standin:
            served = run(folder, tmp_path / "served", kind, GRPOTrainer, freeze=(), **over_http(standin))
    assert tiny.encoded, "no clip was kept"
    begun = dict(unwrapped(load_grouped(folder)).named_parameters())
    expected = weights(plain)
    assert any("visual" in name and not torch.equal(begun[name], weight) for name, weight in expected.items())
    for name in ("loss", "sampling/sampling_logp_difference/max"):
        assert logged(served, name) == pytest.approx(logged(plain, name), abs=1e-6)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(served).items())


class Recorded:
    """Stands for the engine and for accelerate: what happened, in order."""

    where, shared = "vLLM", True

    def __init__(self, main: bool) -> None:
        self.is_main_process, self.happened = main, list[str]()

    def load(self, weights: Any) -> None:
        self.happened.append("load")

    def rest(self) -> None:
        pass

    def wait_for_everyone(self) -> None:
        self.happened.append("wait")

    def generate(self, *arguments: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize(("main", "expected"), [(True, ["load", "wait"]), (False, ["wait"])])
def test_one_process_sends_and_all_wait(tiny_folders: dict[str, Path], main: bool, expected: list[str]) -> None:
    recorded = Recorded(main)
    sampler = VllmSampler(recorded, Drawing(2, Sampling(), (2,)), 10, recorded)
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    for step in (0, 0, 1):
        sampler.follow(model, step)
    assert recorded.happened == expected * 2


def test_a_process_whose_clips_all_failed_waits_too(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    recorded = Recorded(main=False)

    class Waiting(GRPOTrainer):
        def _make_sampler(self) -> Any:
            return VllmSampler(recorded, Drawing(G, self.sampling, (2,)), 10, recorded)

    folder = tiny_folders["qwen2_5_vl"]
    failed = [Skipped(question.id, "a test") for question in QUESTIONS]
    make_trainer(folder, tmp_path, failed, trainer_class=Waiting, max_steps=2).train()
    assert recorded.happened == ["wait", "wait"]


def test_a_colocated_vllm_sleeps_where_all_clips_failed(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    """The weights wake it, and nothing is asked: in the update its memory is the trainer's all the same."""
    folder, awake = tiny_folders["qwen2_5_vl"], list[bool]()
    llm = FakeLLM(TinyVllm(folder))

    class Looked(near(llm)):  # type: ignore[misc]
        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            awake.append(not llm.asleep)
            return super().compute_loss(*arguments, **options)

    failed = [Skipped(question.id, "a test") for question in QUESTIONS]
    make_trainer(folder, tmp_path, failed, trainer_class=Looked, max_steps=2).train()
    assert awake == [False, False]
    assert llm.calls == ["forget", "reset", "sleep", "wake", "forget", "reset", "sleep"]


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen2_5_omni"])
def test_weights_have_the_names_of_a_saved_checkpoint(tiny_folders: dict[str, Path], kind: str) -> None:
    """Read from the file itself: every one of them, each once, with its values."""
    model = unwrapped(load_grouped(tiny_folders[kind], torch.float32))
    sent = {weight.name: weight for weight in PolicyWeights(model).all()}
    model.save_pretrained(tiny_folders[kind].parent / f"again_{kind}")
    saved = load_file(tiny_folders[kind].parent / f"again_{kind}" / "model.safetensors")
    assert sent.keys() == {PREFIX[kind] + name for name in saved}
    for name, tensor in saved.items():
        weight = sent[PREFIX[kind] + name]
        assert torch.equal(weight.make(), tensor)
        assert (weight.dtype, weight.shape) == ("float32", tuple(tensor.shape))
