"""TRL's vllm_* options -> a sampler."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Any

from avst.errors import AvstError
from avst.models.families import unwrapped
from avst.rollout import Sampling
from avst.sharding import sharded
from avst.vllm_rollout.colocated import Colocated
from avst.vllm_rollout.engine import Drawing, Engine
from avst.vllm_rollout.http import Http
from avst.vllm_rollout.nccl import nccl_channel
from avst.vllm_rollout.sampler import VllmSampler
from avst.vllm_rollout.server import Server

logger = logging.getLogger(__name__)

# tokens of one forward pass: a clip must fit, and vLLM reckons the memory that it sets aside by it
MOST_TOKENS = 16384
MISSING = "use_vllm=True needs vLLM in this environment: install the extra vllm, on a machine with a GPU"


def vllm_sampler(
    args: Any, policy: Any, accelerator: Any, sampling: Sampling, end_ids: list[int], deadline_s: float
) -> VllmSampler:
    """The sampler that a GRPOConfig with use_vllm asks for.

    policy: the model that is trained;  accelerator: accelerate's;  deadline_s: what a request may take.
    Raises AvstError where the server is not there, or vLLM not installed.
    """
    _warn_of_unused_features(policy, accelerator)
    engine: Engine = (
        _server(args, accelerator, deadline_s) if args.vllm_mode == "server" else _colocated(args, policy, accelerator)
    )
    drawing = Drawing(args.num_generations, sampling, tuple(end_ids))
    vocabulary = unwrapped(policy).get_input_embeddings().num_embeddings
    return VllmSampler(engine, drawing, vocabulary, accelerator)


def _warn_of_unused_features(policy: Any, accelerator: Any) -> None:
    """Without vLLM the whole weights are there while answers are drawn, and a prompt keeps what is found then."""
    if getattr(unwrapped(policy), "feature_store", None) is not None and (by := sharded(accelerator)):
        logger.warning(
            "model.feature_cache is of no use under %s with use_vllm: features are found by a tower's whole weights, "
            "which no process has there when it trains",
            by,
        )


def _server(args: Any, accelerator: Any, deadline_s: float) -> Server:
    url = args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"
    connect = partial(nccl_channel, url, args.vllm_group_port, accelerator.device)
    server = Server(Http(url, deadline_s), connect, args.vllm_server_timeout)
    server.require_processed_logprobs()  # also without the correction: the start-up check compares them
    return server


def _colocated(args: Any, policy: Any, accelerator: Any) -> Colocated:
    """As TRL starts it. Temperature and truncation show in the log-probs, which are compared with the trainer's."""
    try:
        from vllm import LLM, SamplingParams
    except ImportError as error:
        raise AvstError(MISSING) from error
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "29501")
    for name, value in (
        ("RANK", accelerator.process_index),
        ("LOCAL_RANK", accelerator.local_process_index),
        ("WORLD_SIZE", accelerator.num_processes),
    ):
        os.environ[name] = str(value)
    path = unwrapped(policy).name_or_path
    try:
        llm = LLM(
            model=path,
            gpu_memory_utilization=args.vllm_gpu_memory_utilization,
            max_model_len=args.vllm_max_model_length,
            max_num_seqs=args.per_device_train_batch_size * args.gradient_accumulation_steps,
            enable_sleep_mode=args.vllm_enable_sleep_mode,
            model_impl=args.vllm_model_impl,
            distributed_executor_backend="external_launcher",
            seed=accelerator.process_index,
            max_num_batched_tokens=MOST_TOKENS,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
            trust_remote_code=False,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise AvstError(f"vLLM cannot load {path}: {' '.join(str(error).split())[:300]}") from error
    return Colocated(llm, SamplingParams, sleeps=args.vllm_enable_sleep_mode)
