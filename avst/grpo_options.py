"""Which options of TRL's GRPOConfig avst honours and which it refuses, with the reason.

An option keeps its name and its meaning, or it is refused: none is ignored. Options that GRPOConfig inherits from
transformers' TrainingArguments are the Trainer's own business, but for the few in REFUSED. An option that a later TRL
adds is refused until it is listed here.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

from avst.errors import AvstError

SUPPORTED: frozenset[str] = frozenset(
    {
        # groups and steps
        "num_generations",
        "max_completion_length",
        "shuffle_dataset",
        "num_iterations",
        "generation_batch_size",
        "steps_per_generation",
        # sampling
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        # advantages and loss
        "scale_rewards",
        "multi_objective_aggregation",
        "loss_type",
        "beta",
        "use_bias_correction_kl",
        "epsilon",
        "epsilon_high",
        "delta",
        "importance_sampling_level",
        "mask_truncated_completions",
        "top_entropy_quantile",
        "off_policy_mask_threshold",
        "sapo_temperature_neg",
        "sapo_temperature_pos",
        "vespo_k_pos",
        "vespo_lambda_pos",
        "vespo_k_neg",
        "vespo_lambda_neg",
        # logs
        "log_completions",
        # who samples
        "use_vllm",
        "vllm_mode",
        "vllm_model_impl",
        "vllm_enable_sleep_mode",
        "vllm_server_base_url",
        "vllm_server_host",
        "vllm_server_port",
        "vllm_server_timeout",
        "vllm_group_port",
        "vllm_gpu_memory_utilization",
        "vllm_max_model_length",
        "vllm_importance_sampling_correction",
        "vllm_importance_sampling_mode",
        "vllm_importance_sampling_cap",
        "vllm_importance_sampling_clip_max",
        "vllm_importance_sampling_clip_min",
    }
)

_LOADING = "avst is given a loaded model; say how to load it in the recipe's model section"
_ENTROPY = "entropy is measured without a gradient, so it cannot be rewarded"
_REFERENCE = "the reference stays the model that the run began with"
_BATCHING = "all prompts of a step are decoded together already, each prefilled once"
_COMPLETIONS = "log_completions saves every completion in the run's own folder; read them there"

REFUSED: dict[str, str] = {
    "model_init_kwargs": _LOADING,
    "trust_remote_code": "no code from a checkpoint is run",
    "disable_dropout": "the models of avst have no dropout but that of LoRA (the recipe's model.lora.dropout)",
    "router_aux_loss_coef": "the models of avst are dense, so there is no router to balance",
    "cast_lm_head_to_fp32": "the head runs in chunks in the model's dtype, its log-softmax in float32",
    "num_generations_eval": "evaluation is greedy, with one answer a question (avst eval)",
    "ds3_gather_for_generation": "weights are always gathered for generation under ZeRO-3",
    "pad_to_multiple_of": "a group is one packed row, so nothing is padded",
    "chat_template_kwargs": "the prompt is the task's own (avst.prompt)",
    "generation_kwargs": "rollouts read temperature, top_p, top_k, min_p and repetition_penalty, and nothing else",
    "cache_implementation": "rollouts continue from the prompt's prefilled cache, whose kind is fixed",
    "reward_weights": "weights differ by task, so they stand in the recipe beside each reward",
    "vllm_structured_outputs_regex": "a grammar would change the policy that samples, and not the one that is trained",
    "vllm_tensor_parallel_size": (
        "a colocated vLLM has the GPU of its process; for a model over several, start a server "
        "(vllm serve --tensor-parallel-size N) and set vllm_mode=server"
    ),
    "use_transformers_continuous_batching": _BATCHING,
    "transformers_continuous_batching_config": _BATCHING,
    "use_transformers_paged": _BATCHING,
    "sync_ref_model": _REFERENCE,
    "ref_model_mixup_alpha": _REFERENCE,
    "ref_model_sync_steps": _REFERENCE,
    "entropy_coef": _ENTROPY,
    "use_adaptive_entropy": _ENTROPY,
    "entropy_coef_min": _ENTROPY,
    "entropy_coef_max": _ENTROPY,
    "entropy_coef_delta": _ENTROPY,
    "entropy_target": _ENTROPY,
    "max_tool_calling_iterations": "an answer is one turn, without tools",
    "log_multimodal": "no media is written into logs, so there is nothing to leave out",
    "num_completions_to_print": _COMPLETIONS,
    "log_unique_prompts": _COMPLETIONS,
    "log_completions_hub_repo": _COMPLETIONS,
    # of TrainingArguments: what a GRPO step would silently ignore
    "label_smoothing_factor": "the loss is GRPO's; it has no labels to smooth",
    "train_sampling_strategy": "the order of questions is the group sampler's (shuffle_dataset)",
    "use_liger_kernel": "it replaces the model's forward, and the packed forward with it",
    "eval_strategy": "evaluation is greedy and a command of its own (avst eval)",
    "neftune_noise_alpha": "noise on the embeddings would train another policy than the one that sampled",
}

# What GRPOConfig itself turns a default into on construction.
_RESOLVED: dict[str, tuple[Any, ...]] = {"pad_to_multiple_of": (None,)}


def _default(option: Field[Any]) -> Any:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return option.default


def refuse_unsupported(config: Any) -> None:
    """Raise AvstError, naming every option with its reason, where a GRPOConfig asks for what avst would not do.

    config: a dataclass instance, GRPOConfig or a subclass. Fields that a subclass adds itself are its own.
    """
    from transformers import TrainingArguments
    from trl import GRPOConfig

    inherited = {option.name for option in fields(TrainingArguments)}
    complaints = []
    for option in fields(GRPOConfig):
        name, value = option.name, getattr(config, option.name)
        reason = REFUSED.get(name)
        if reason is None and name not in SUPPORTED | inherited:
            reason = "an option of a newer TRL than avst knows"
        if reason is not None and value != _default(option) and value not in _RESOLVED.get(name, ()):
            complaints.append(f"{name}={value!r} is not supported: {reason}")
    complaints += _about_vllm(config)
    if config.steps_per_generation != config.gradient_accumulation_steps:
        complaints.append(
            f"steps_per_generation={config.steps_per_generation} is not supported: the prompts of one optimizer step "
            f"are rolled out together, so it is gradient_accumulation_steps={config.gradient_accumulation_steps}"
        )
    if not config.temperature > 0:
        complaints.append(f"temperature={config.temperature} is not supported: the answers of a group would be one")
    if config.max_completion_length is None:
        complaints.append("max_completion_length=None is not supported: an answer must end somewhere")
    if config.multi_objective_aggregation not in (known := ("sum_then_normalize", "normalize_then_sum")):
        complaints.append(
            f"multi_objective_aggregation={config.multi_objective_aggregation!r} is none of {', '.join(known)}"
        )
    if not 0.0 <= config.top_entropy_quantile <= 1.0:
        complaints.append(f"top_entropy_quantile={config.top_entropy_quantile!r} is not a share between 0 and 1")
    if complaints:
        raise AvstError("; ".join(complaints))


def _about_vllm(config: Any) -> list[str]:
    """What is wrong with the options of vLLM, which no one reads without use_vllm."""
    from trl import GRPOConfig

    if not config.use_vllm:
        return [
            f"{option.name}={value!r} does nothing without use_vllm=True"
            for option in fields(GRPOConfig)
            if option.name.startswith("vllm_") and option.name in SUPPORTED
            if (value := getattr(config, option.name)) != _default(option)
        ]
    found = []
    if config.vllm_mode not in ("server", "colocate"):
        found.append(f"vllm_mode={config.vllm_mode!r} is none of server, colocate")
    if (
        config.loss_type == "vespo"
        and config.vllm_importance_sampling_correction
        and config.vllm_importance_sampling_mode not in ("token_truncate", "token_mask")
    ):
        found.append(
            f"vllm_importance_sampling_mode={config.vllm_importance_sampling_mode!r} is not supported with "
            "loss_type vespo, which weighs tokens: token_truncate or token_mask"
        )
    return found
