"""GRPOTrainer: the step as prose. What a prompt goes through, in order:

    dataset -> prompts of one optimizer step -> rollout (avst.samplers) -> texts, answers (avst.prompt)
            -> rewards (avst.scoring) -> advantages, loss (avst.grpo) over one packed forward a micro-batch
            (avst.models)

transformers' Trainer gives the loop, accelerate, the engines, callbacks, loggers and checkpoints. What differs from
TRL's trainer of the same name: one data-set row is one group (a prompt is never repeated), all prompts of an
optimizer step are decoded together, and every option keeps TRL's name and meaning or is refused (avst.grpo_options).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate.utils import gather_object, set_seed
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import GRPOConfig

from avst.data import Reused
from avst.errors import AvstError
from avst.group_rewards import may_skip_flat, nothing_to_learn, score_groups, set_advantages, without_spread
from avst.grpo import LossConfig, LossOutput, high_entropy_mask, policy_loss
from avst.grpo_losses import Normaliser, step_tokens
from avst.grpo_options import refuse_unsupported
from avst.models.families import unwrapped
from avst.models.packing import PackedRow
from avst.models.policy import Logps
from avst.processes import refuse_data_parallel
from avst.prompt import PromptBuilder
from avst.reference import Reference
from avst.resampling import other_rows, replace_flat
from avst.rollout import Sampling, end_tokens
from avst.rollout_options import RolloutOptions
from avst.samplers import InProcess, Sampler
from avst.saving import SaveLater
from avst.scoring import Scorer
from avst.sharding import WholeWeights, computed_in, reshard
from avst.startup import check_paths
from avst.step import Meter, MicroBatch, Step
from avst.step_faults import StepFaults
from avst.step_log import completion_rows, log_features, log_loss, log_rollout
from avst.types import Answer, Group, Prompt, Question

CompletionSink = Callable[[int, list[dict[str, Any]]], object]


class GRPOTrainer(StepFaults):
    """Trains `model` on groups of sampled answers.

    model: from avst.models.loading, or any supported transformers model that `understand_groups` was called on;
    scorer: rewards with their weights;  args: TRL's GRPOConfig (per_device_train_batch_size counts completions, as in
    TRL: 6 with num_generations 6 is one prompt a device);  train_dataset: rows are Prompt or Skipped
    (avst.data.PromptDataset); prompts: reads answers back into source pixels;  peft_config: LoRA and the like, the
    reference is then the bare model (for a `model` that comes with adapters: the adapters as they came);
    completion_sink: called on the main process with (step, one dict a completion);  rollout_options: what TRL has no
    option for: shared caches, groups without spread.

    Errors: AvstError for options that are refused and for a batch size that cuts a group.
    """

    args: GRPOConfig

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        scorer: Scorer,
        args: GRPOConfig,
        train_dataset: Dataset[Any] | Sequence[Any],
        prompts: PromptBuilder,
        processing_class: ProcessorMixin | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: PeftConfig | None = None,
        completion_sink: CompletionSink | None = None,
        rollout_options: RolloutOptions | None = None,
    ) -> None:
        refuse_unsupported(args)
        refuse_data_parallel(args)
        assert args.num_generations is not None  # GRPOConfig's own default is a number
        if args.per_device_train_batch_size % args.num_generations:
            raise AvstError(
                f"per_device_train_batch_size {args.per_device_train_batch_size} (completions, as in TRL) is not a "
                f"multiple of num_generations {args.num_generations}: a group would be cut"
            )
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
        self.scorer, self.prompts, self.completion_sink = scorer, prompts, completion_sink
        self.rollout_options = rollout_options or RolloutOptions()
        self.num_generations = args.num_generations
        self.prompts_per_batch = args.per_device_train_batch_size // args.num_generations
        self.loss_config = LossConfig.of(args)
        self.meter = Meter()
        self._step: Step | None = None
        self._paths_checked = False
        super().__init__(
            model=model,
            args=args,
            data_collator=cast(Any, list),  # a micro-batch is the list of its rows
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.reference = Reference(model, peft_config is not None, self.engine) if args.beta else None
        self.whole_weights = WholeWeights(model, args.device) if self.engine else None
        self.add_callback(SaveLater(self.may_save))
        tokenizer = prompts.processor.tokenizer
        self.end_ids, self.pad_id = end_tokens(model, tokenizer)
        self.sampling = Sampling(
            max_new_tokens=cast(int, args.max_completion_length),  # None was refused
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k or 0,
            min_p=args.min_p,
            repetition_penalty=args.repetition_penalty,
        )
        self.sampler = self._make_sampler()
        if self.reference is not None:
            self.reference.prepare(self.accelerator)
        set_seed(args.seed, device_specific=True)  # as in TRL: processes that sample alike would explore less

    def _make_sampler(self) -> Sampler:
        if not self.args.use_vllm:
            return InProcess(self.num_generations, self.sampling, self.end_ids, self.pad_id, self.rollout_options)
        from avst.vllm_rollout.build import vllm_sampler

        deadline_s = self.rollout_options.vllm_deadline_s
        return vllm_sampler(self.args, self.model, self.accelerator, self.sampling, self.end_ids, deadline_s)

    # ---- data: one row a group ---------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.rows_in_steps(self.prompts_per_batch, self.args.num_iterations, bool(self.args.shuffle_dataset))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[MicroBatch], None]:
        """The micro-batches of one optimizer step. They are rolled out when the first of them is used, not here: on
        resume the Trainer restores the random state after this call, and the rollout must see the restored state."""
        with self.meter.phase("data"):
            batches = self.next_rows(epoch_iterator, num_batches, device)
        if batches and any(isinstance(row, Reused) for row in batches[0]):
            if self._step is None:
                raise AvstError("cannot go on inside num_iterations: the answers of that step were not saved")
        else:
            if self._step is not None:
                # it and its micro-batches refer to each other: their tensors would stay until the collector runs
                self._step.micro_batches.clear()
            self._step = Step.of(batches)
        assert self._step is not None
        return self._step.micro_batches, None

    def _prepare_inputs(self, inputs: MicroBatch) -> MicroBatch:  # type: ignore[override]
        if not inputs.step.rolled_out:
            self._roll_out(inputs.step)
        return inputs

    def may_save(self) -> bool:
        """Not inside num_iterations: the answers that the later iterations use are in no checkpoint."""
        return self.state.global_step % self.args.num_iterations == 0

    def measured(self) -> dict[str, Any]:
        return {**super().measured(), "meter": self.meter.state()}

    def go_on_measuring(self, state: Mapping[str, Any]) -> None:
        super().go_on_measuring(state)
        self.meter = Meter.of(state["meter"])

    # ---- rollout, rewards, advantages --------------------------------------------------------------------------------

    def _roll_out(self, step: Step) -> None:
        with self._whole_policy() as self._policy:
            with self.meter.phase("weights"):
                self.sampler.follow(self._policy, self.state.global_step)
            groups = self._sample_and_score(step.prompts)
            if self.rollout_options.resample_rounds:
                groups = self._resampled(step, groups)
        self.sampler.rest()
        set_advantages(groups, self.args, self.scorer.specs, self._everyone)
        for is_flat in without_spread(groups):
            self.meter.mean("frac_reward_zero_std", float(is_flat))
        skip = self.rollout_options.skip_flat_groups and may_skip_flat(self.args)
        drawn = iter(groups)
        for micro in step.micro_batches:
            mine = [next(drawn) for _ in micro.prompts]
            left_out = micro.take(mine, skip, self._blank)
            self.meter.mean("flat_groups/skipped", left_out, len(mine))
        kept = [
            len(ids)
            for g in groups
            for ids, cut in zip(g.completion_ids, g.truncated, strict=True)
            if not (cut and self.args.mask_truncated_completions)
        ]
        step.tokens = self._sum(float(sum(kept)))
        step.rolled_out = True
        log_rollout(self.meter, groups, step.skipped)
        if self.completion_sink is not None and self.args.log_completions:
            step_now = self.state.global_step + 1  # the step that learns from them, as in the log
            rows = gather_object(completion_rows(step_now, groups))
            if self.is_world_process_zero():
                self.completion_sink(step_now, rows)

    @contextmanager
    def _whole_policy(self) -> Iterator[Any]:
        """The transformers model that draws answers: the policy, or its twin where an engine shares the weights out."""
        if self.whole_weights is not None:
            reshard(inner := self.accelerator.unwrap_model(self.model_wrapped))
            with self.whole_weights.gathered(inner, computed_in(self.accelerator)) as twin:
                yield unwrapped(twin)
            return
        model = unwrapped(self.model)
        training, lockstep = model.training, model.lockstep
        model.eval()
        model.lockstep = False  # each process has its own prompts, and as many as it has
        try:
            yield model
        finally:
            model.train(training)
            model.lockstep = lockstep

    def _sample_and_score(self, prompts: Sequence[Prompt]) -> list[Group]:
        """Answers to `prompts` with their rewards; the first group of a run is checked (avst.startup)."""
        model = self._policy
        with self.accelerator.autocast():  # the bare model lacks the wrapper's, and must sample as it trains
            with self.meter.phase("rollout"):
                groups = self._sample(model, list(prompts))
            if groups and not self._paths_checked:
                elsewhere = self.sampling.only_temperature if self.sampler.elsewhere else None
                check_paths(model, groups[0], self.sampling.temperature, self._computed_in(model), elsewhere)
                self._paths_checked = True
        with self.meter.phase("rewards"):
            score_groups(groups, self.prompts, self.scorer)
        return groups

    def _resampled(self, step: Step, groups: list[Group]) -> list[Group]:
        """The step's groups, other questions' in place of flat ones (avst.resampling)."""
        state, number, rows = self.accelerator.state, self.state.global_step, cast(Any, self.train_dataset)
        in_step = self.order.rows_at(number)
        order = other_rows(len(rows), in_step, self.args.seed, number, state.process_index, state.num_processes)
        groups, skipped = replace_flat(
            groups,
            self.rollout_options.resample_rounds,
            (rows[row] for row in order),
            self._sample_and_score,
            lambda some: nothing_to_learn(some, self.args, self.scorer.specs),
            self.meter,
        )
        step.skipped += skipped
        return groups

    def _computed_in(self, model: PreTrainedModel) -> torch.dtype:
        """The precision of the forward pass: autocast's, or that of the weights."""
        return torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else model.dtype

    def _sample(self, model: PreTrainedModel, prompts: list[Prompt]) -> list[Group]:
        if not prompts:
            return []
        return self.sampler.sample(model, prompts)

    def _everyone(self, mine: Tensor) -> tuple[Tensor, int]:
        """The rows of all processes, and where this one's begin."""
        parts = gather_object([mine]) if self.accelerator.num_processes > 1 else [mine]
        return torch.cat(parts), sum(len(part) for part in parts[: self.accelerator.process_index])

    def _blank(self) -> Group:
        """A group that weighs nothing, of a few tokens, for a micro-batch that has nothing to compute: every process
        runs every forward."""
        question = Question("blank", "temporal", "-", "", 0.0, gold=Answer(), gold_text="")
        prompt = self.prompts.build_text(question)
        prompt = replace(prompt, input_ids=prompt.input_ids[:4])  # the template's first words
        return Group(prompt, [[self.end_ids[0]]], [[0.0]], [True], advantages=[0.0])

    def _sum(self, value: float) -> float:
        return float(self.accelerator.reduce(torch.tensor(value, device=self.accelerator.device), "sum"))

    # ---- the loss ----------------------------------------------------------------------------------------------------

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: MicroBatch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The micro-batch's loss over one packed forward, scaled so that a step's micro-batches add up."""
        micro, bare = inputs, unwrapped(self.model)
        row = micro.row(bare)
        if self.reference is not None and micro.ref_logps is None:
            with self.meter.phase("reference"):
                inner = self.accelerator.unwrap_model(model)
                micro.ref_logps = self.reference.logps(model, inner, row, self.args.temperature)
        with self.meter.phase("forward"):
            out = model(packed=row, temperature=self.args.temperature)
        mask = micro.token_mask(row, self.args.mask_truncated_completions or micro.blank).to(out["logps"].device)
        result = self._policy_loss(micro, row, out, mask)
        if micro.old_logps is None and self.args.num_iterations > 1:
            micro.old_logps = out["logps"].detach()
        made_of = {"logps": out["logps"], "old_logps": micro.old_logps, "ref_logps": micro.ref_logps}
        if bool(self.checked(result.loss, **made_of).isfinite()):
            log_loss(self.meter, result, out["entropies"][mask])
        return result.loss

    def _policy_loss(self, micro: MicroBatch, row: PackedRow, out: Logps, mask: Tensor) -> LossOutput:
        logps, device = out["logps"], out["logps"].device
        lengths = torch.tensor(row.lengths, device=device)
        tokens = step_tokens(torch.tensor(micro.step.tokens), self.accelerator.num_processes)
        return policy_loss(
            logps,
            micro.old_logps,
            micro.ref_logps,
            micro.advantages().to(device),
            torch.repeat_interleave(lengths),
            self.loss_config,
            Normaliser(self.current_gradient_accumulation_steps, tokens.to(device)),
            token_mask_L=mask,
            policy_mask_L=self._most_uncertain(out["entropies"], mask),
            sampled_logps_L=micro.sampled_logps().to(logps) if self.sampler.elsewhere else None,
        )

    def _most_uncertain(self, entropies: Tensor, mask: Tensor) -> Tensor | None:
        """top_entropy_quantile: the tokens that keep their policy term, by a threshold over all processes' tokens."""
        share = self.args.top_entropy_quantile
        if share >= 1.0:
            return None
        pool, _ = self._everyone(entropies[mask].cpu())
        return high_entropy_mask(entropies, share, pool.to(entropies.device))

    # ---- the Trainer's habits ----------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Every log line of training carries all that was measured since the last one, over all processes."""
        if "loss" in logs or "train_loss" not in logs:
            log_features(self.meter, getattr(unwrapped(self.model), "feature_store", None))
            self.meter.rest("backward", "step", ("weights", "rollout", "rewards", "resample", "reference", "forward"))
            meters = gather_object([self.meter]) if self.accelerator.num_processes > 1 else [self.meter]
            figures = self.meter.merged(meters)
            if spent := figures.get("seconds/rollout", 0.0):
                drawn = figures.get("completions/tokens", 0.0) + figures.get("resample/dropped_tokens", 0.0)
                figures["tokens_per_second"] = drawn / spent
            logs = {**logs, **figures}
            self.meter = Meter()
        super().log(logs, start_time)
