"""Whatever a vLLM server does wrong is one line, and the run ends there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avst.errors import AvstError
from avst.models.feature_store import FeatureStore
from avst.rollout import Sampling
from avst.types import Prompt
from avst.vllm_rollout import build, http
from avst.vllm_rollout.colocated import Colocated
from avst.vllm_rollout.engine import Drawing, Reply
from avst.vllm_rollout.http import Http
from avst.vllm_rollout.sampler import VllmSampler
from avst.vllm_rollout.server import Server
from tests.tiny_world import load_grouped, make_builder, make_question
from tests.vllm_rollout.standin import StandIn
from tests.vllm_rollout.tiny_vllm import FakeLLM, TinyVllm

ALONE = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)


@pytest.fixture(scope="module")
def tiny(tiny_folders: dict[str, Path]) -> TinyVllm:
    return TinyVllm(tiny_folders["qwen2_5_vl"])


@pytest.fixture
def standin(tiny: TinyVllm) -> Iterator[StandIn]:
    with StandIn(tiny).running() as running:
        yield running


@pytest.fixture(scope="module")
def prompt(tiny_folders: dict[str, Path]) -> Prompt:
    return make_builder(tiny_folders["qwen2_5_vl"], keep_shown=True).build_text(make_question())


def ask(standin: StandIn, prompt: Prompt, deadline_s: float = 30.0, vocabulary: int = 10**6) -> None:
    server = Server(Http(standin.url, deadline_s), lambda: standin.channel, 5.0)
    drawing = Drawing(3, Sampling(max_new_tokens=4), (2,))
    VllmSampler(server, drawing, vocabulary, ALONE).sample(None, [prompt])


def one_line(error: pytest.ExceptionInfo[AvstError], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    for part in parts:
        assert part in text, text


def changed(key: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """A fault: one field of every answer's choices."""

    def fault(path: str, answer: Any) -> Any:
        if path == "/v1/completions":
            for choice in answer["choices"]:
                choice[key] = change(choice[key])
        return answer

    return fault


def scores(change: Callable[[list[float]], list[Any]]) -> Callable[[str, Any], Any]:
    return changed("logprobs", lambda scored: {**scored, "token_logprobs": change(scored["token_logprobs"])})


def fewer(path: str, answer: Any) -> Any:
    return {"choices": answer["choices"][:-1]} if path == "/v1/completions" else answer


def broken(path: str, answer: Any) -> Any:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1\nRuntimeError: CUDA \x1b[31mout of memory'
    return (500, trace) if path == "/v1/completions" else answer


def refused(path: str, answer: Any) -> Any:
    error = {"error": {"message": "maximum context length is 64 tokens", "type": "BadRequestError"}}
    return (400, json.dumps(error)) if path == "/v1/completions" else answer


def dies(path: str, answer: Any) -> Any:
    if path == "/v1/completions":
        raise ConnectionAbortedError
    return answer


FAULTS: dict[str, tuple[Callable[[str, Any], Any], tuple[str, ...]]] = {
    "fewer answers": (fewer, ("2 answers came back, 3 were asked for", "clip0/0/temporal/0")),
    "no answers": (lambda p, a: {"choices": []} if p == "/v1/completions" else a, ("has no prompt_token_ids",)),
    "other prompt": (changed("prompt_token_ids", lambda ids: [*ids[:5], 7, *ids[6:]]), ("first differ at 5 (7, ",)),
    "longer prompt": (changed("prompt_token_ids", lambda ids: [*ids, 9]), ("(9, nothing here)",)),
    "NaN": (scores(lambda logps: [float("nan"), *logps[1:]]), ("nan came back as the log-prob",)),
    "null": (scores(lambda logps: [None, *logps[1:]]), ("nan came back as the log-prob",)),
    "-inf": (scores(lambda logps: [float("-inf"), *logps[1:]]), ("-inf came back",)),
    "a probability": (scores(lambda logps: [0.5, *logps[1:]]), ("0.5 came back",)),
    "no log-probs": (changed("logprobs", lambda scored: None), ("came with 0 log-probs",)),
    "fewer log-probs": (scores(lambda logps: logps[1:]), ("log-probs",)),
    "empty answers": (changed("token_ids", lambda ids: []), ("an answer of 0 tokens",)),
    "strange tokens": (changed("token_ids", lambda ids: [2_000_000, *ids[1:]]), ("token 2000000", "another model")),
    "500": (broken, ("answered 500: RuntimeError: CUDA  [31mout of memory",)),
    "400": (refused, ("answered 400: maximum context length is 64 tokens",)),
    "dies": (dies, ("cannot be reached: Remote end closed connection",)),
    "no JSON": (lambda p, a: (200, "<html>") if p == "/v1/completions" else a, ("did not answer in JSON: <html>",)),
    "another service": (lambda p, a: {"hello": 1} if p == "/v1/models" else a, ("has no data.0.id",)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line(standin: StandIn, prompt: Prompt, name: str) -> None:
    ask(standin, prompt)  # it works
    standin.fault, parts = FAULTS[name]
    with pytest.raises(AvstError) as error:
        ask(standin, prompt)
    one_line(error, *parts)


def test_a_slow_server(standin: StandIn, prompt: Prompt) -> None:
    def slow(path: str, answer: Any) -> Any:
        if path == "/v1/completions":
            time.sleep(1.0)
        return answer

    standin.fault = slow
    with pytest.raises(AvstError) as error:
        ask(standin, prompt, deadline_s=0.3)
    one_line(error, f"vLLM server {standin.url}/v1/completions did not answer within 0.3 s")


def test_a_server_that_never_ends_its_answer(standin: StandIn) -> None:
    """It is never silent for long, so no time-out of a socket ends it."""
    standin.pause_s = 0.05
    standin.fault = lambda path, answer: (200, json.dumps("slow" * 20))  # four seconds
    with pytest.raises(AvstError) as error:
        Http(standin.url, 0.3).get("/v1/models")
    one_line(error, f"vLLM server {standin.url}/v1/models did not answer within 0.3 s")


def test_an_answer_that_breaks_off(standin: StandIn) -> None:
    standin.missing = 1
    with pytest.raises(AvstError) as error:
        Http(standin.url, 5.0).get("/v1/models")
    one_line(error, "/v1/models cannot be reached: IncompleteRead(")


def test_an_endless_answer(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 1 << 20)
    standin.fault = lambda path, answer: (200, json.dumps("much" * (1 << 19)))
    with pytest.raises(AvstError) as error:
        Http(standin.url, 5.0).get("/v1/models")
    one_line(error, "/v1/models answered more than 1 MiB")


def test_no_server(standin: StandIn) -> None:
    standin.stop()
    with pytest.raises(AvstError) as error:
        Server(Http(standin.url, 5.0), lambda: standin.channel, 0.2)
    one_line(error, "no vLLM server after vllm_server_timeout=0.2 s", f"{standin.url}/health cannot be reached")


def test_no_address() -> None:
    with pytest.raises(AvstError, match="'localhost:8000' is no http address"):
        Http("localhost:8000", 1.0)
    with pytest.raises(AvstError) as error:
        Http("http://me:secret@localhost:8000", 1.0)
    one_line(error, "no user or password")
    assert "secret" not in str(error.value)


def test_raw_log_probs_and_a_server_without_its_endpoints(standin: StandIn) -> None:
    server = Server(Http(standin.url, 5.0), lambda: standin.channel, 5.0)
    server.require_processed_logprobs()
    standin.logprobs_mode = "raw_logprobs"
    with pytest.raises(AvstError) as error:
        server.require_processed_logprobs()
    one_line(error, "gives raw_logprobs", "--logprobs-mode processed_logprobs")
    standin.fault = lambda path, answer: (404, '{"detail":"Not Found"}')
    with pytest.raises(AvstError) as error:
        server.require_processed_logprobs()
    one_line(error, "answered 404: Not Found; start it by VLLM_SERVER_DEV_MODE=1 vllm serve")


def test_weights_that_do_not_fit_the_server(standin: StandIn, tiny_folders: dict[str, Path]) -> None:
    """A server of another model refuses the first weights."""
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight[:-1].detach())
    server = Server(Http(standin.url, 30.0), lambda: standin.channel, 5.0)
    sampler = VllmSampler(server, Drawing(3, Sampling(), (2,)), 10**6, ALONE)
    with pytest.raises(AvstError) as error:
        sampler.follow(model, 0)
    one_line(error, "/update_weights answered 500: RuntimeError: size mismatch for lm_head.weight")


def test_a_vllm_that_cannot_forget_clips(standin: StandIn, tiny: TinyVllm, tiny_folders: dict[str, Path]) -> None:
    model, drawing = load_grouped(tiny_folders["qwen2_5_vl"]), Drawing(3, Sampling(), (2,))
    standin.fault = lambda path, answer: (404, '{"detail":"Not Found"}') if "encoder" in path else answer
    server = Server(Http(standin.url, 30.0), lambda: standin.channel, 5.0)
    with pytest.raises(AvstError) as error:
        VllmSampler(server, drawing, 10**6, ALONE).follow(model, 0)
    one_line(error, "/reset_encoder_cache answered 404: Not Found; without it", "start vLLM 0.30 by VLLM_SERVER_DEV")
    llm = FakeLLM(tiny)
    del llm.llm_engine.reset_encoder_cache
    with pytest.raises(AvstError) as error:
        VllmSampler(Colocated(llm, SimpleNamespace), drawing, 10**6, ALONE).follow(model, 0)
    one_line(error, "cannot forget what the old towers made of a clip")


def test_a_prompt_without_its_clip(standin: StandIn, tiny_folders: dict[str, Path]) -> None:
    bare = make_builder(tiny_folders["qwen2_5_vl"]).build_text(make_question())
    with pytest.raises(AvstError) as error:
        ask(standin, bare)
    one_line(error, "PromptBuilder(keep_shown=True)")


def test_no_vllm_in_this_process() -> None:
    """As on every machine of these tests."""
    with pytest.raises(AvstError) as error:
        build.vllm_sampler(SimpleNamespace(vllm_mode="colocate"), None, ALONE, Sampling(), [2], 1.0)
    one_line(error, "use_vllm=True needs vLLM in this environment")


@pytest.mark.parametrize(("stage", "warned"), [(3, True), (2, False)])
def test_features_that_no_process_can_find(
    standin: StandIn, tiny_folders: dict[str, Path], tmp_path: Path, caplog: Any, stage: int, warned: bool
) -> None:
    """Under ZeRO-3 the towers' weights are whole on no process, and with vLLM the twin that has them draws nothing."""
    model = load_grouped(tiny_folders["qwen2_5_vl"])
    args = SimpleNamespace(
        vllm_mode="server",
        vllm_server_base_url=standin.url,
        vllm_group_port=51216,
        vllm_server_timeout=5.0,
        vllm_importance_sampling_correction=False,
        num_generations=2,
    )
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    processes = SimpleNamespace(state=state, device=torch.device("cpu"))
    build.vllm_sampler(args, model, processes, Sampling(), [2], 5.0)
    assert not caplog.messages, "nothing was asked for"
    standin.logprobs_mode = "raw_logprobs"
    with pytest.raises(AvstError, match="gives raw_logprobs"):  # though no correction is asked for
        build.vllm_sampler(args, model, processes, Sampling(), [2], 5.0)
    standin.logprobs_mode = "processed_logprobs"
    model.feature_store = FeatureStore(tmp_path / "features", 10**6)
    build.vllm_sampler(args, model, processes, Sampling(), [2], 5.0)
    assert [text.startswith("model.feature_cache is of no use under ZeRO-3") for text in caplog.messages] == (
        [True] * warned
    )


def test_a_colocated_answer_without_log_probs_is_seen() -> None:
    sampler = VllmSampler(
        SimpleNamespace(where="vLLM", shared=False, generate=lambda *_: [Reply([5], [[1, 2]], [[-0.5]])]),  # type: ignore[arg-type]
        Drawing(1, Sampling(), (2,)),
        10,
        ALONE,
    )
    made = SimpleNamespace(input_ids=torch.tensor([5]), question=make_question())
    with pytest.raises(AvstError, match="an answer of 2 tokens came with 1 log-probs"):
        sampler.sample(None, [made])  # type: ignore[list-item]
