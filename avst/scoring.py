"""Rewards -> weights -> totals, with the reason for every reward.

Letters: B completions of a batch (groups one behind the other), G completions of one question, K reward functions.

A reward is a plain function with TRL's signature, sync or async:

    reward(prompts, completions, completion_ids, **columns) -> list[float | None]      # one entry a completion

It is called once a group, and only about tasks that its weight names. `columns`, one entry a completion: task,
question, answer (predicted, boxes in source pixels), gold, duration (seconds), and what the caller adds; as they are:
word_vectors and reasons(i, text), by which a reward says why completion i got what it got. None abstains: no part of
the total.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import numbers
import pickle
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from avst.apart import Apart, ChildLost
from avst.errors import AvstError
from avst.plugins import DEFAULT_REWARDS, RewardSpec, load_reward, load_specs, one_line
from avst.types import Answer, Question
from avst.word_vectors import WordVectors

__all__ = ["DEFAULT_REWARDS", "RewardSpec", "Score", "Scorer", "load_reward", "load_specs"]

OnError = Literal["raise", "abstain"]


@dataclass(slots=True)
class Score:
    """What one completion earned. rewards: name -> value, None where it does not apply (every spec has its entry);
    total: sum of weight·reward over those that apply (Eq. 7); reasons: name -> what the reward said.

    Example: Score({"format": 1.0, "object": None, "temporal": 0.5, "spatial": None}, 1.5, {"temporal": ["…"]})
    """

    rewards: dict[str, float | None] = field(default_factory=dict)
    total: float = 0.0
    reasons: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Call:
    """One reward function asked about one group; `rows` are positions in the batch."""

    spec: RewardSpec
    rows: range
    question_id: str
    arguments: dict[str, Any]
    outcome: Any = None  # what it returned, or the exception it ended with


class Scorer:
    """Scores completions by the rewards of a recipe.

    on_error: what an exception, a wrong length, inf, NaN or a passed deadline does: "raise" an AvstError that names
    function and question, or "abstain" (None, with the reason). deadline_s: seconds for one call about one group; a
    sync function that passes it cannot be stopped, it is left behind in a daemon thread; apart: the functions run in a
    child process, which is ended then, and whose own end (a crash in C code) is a fault like any other.
    """

    def __init__(
        self,
        specs: Sequence[RewardSpec],
        word_vectors: WordVectors,
        on_error: OnError = "raise",
        deadline_s: float | None = None,
        apart: bool = False,
    ) -> None:
        names = [spec.name for spec in specs]
        if not names:
            raise AvstError("no rewards: a recipe must name at least one")
        if len(set(names)) < len(names):
            raise AvstError(f"rewards: the name {next(n for n in names if names.count(n) > 1)!r} is used twice")
        if on_error not in ("raise", "abstain"):
            raise AvstError(f'rewards: on_error must be "raise" or "abstain", got {on_error!r}')
        if deadline_s is not None and not deadline_s > 0:
            raise AvstError(f"rewards: deadline_s must be above 0, got {deadline_s}")
        self.specs = tuple(specs)
        self.word_vectors = word_vectors
        self.on_error = on_error
        self.deadline_s = deadline_s
        self._apart = Apart(self._run_there) if apart else None

    def score(
        self,
        questions: Sequence[Question],
        texts: Sequence[str],
        answers: Sequence[Answer],
        completion_ids: Sequence[Sequence[int]] | None = None,
        prompts: Sequence[Any] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[Score]:
        """One Score a completion, in order. All sequences have B entries; completions of one question stand together.

        columns: further columns for the rewards, e.g. {"frame_size": [(1280, 720), …]}.
        """
        batch: dict[str, Sequence[Any]] = {
            "prompts": [[{"role": "user", "content": q.text}] for q in questions] if prompts is None else prompts,
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [[] for _ in questions] if completion_ids is None else completion_ids,
            **(columns or {}),
            "task": [q.task for q in questions],
            "question": questions,
            "answer": answers,
            "gold": [q.gold for q in questions],
            "duration": [q.duration_s for q in questions],
        }
        for name, column in batch.items():
            if len(column) != len(questions):
                raise ValueError(f"column {name!r} has {len(column)} entries for {len(questions)} completions")
        scores = [Score({spec.name: None for spec in self.specs}) for _ in questions]
        calls = self._calls(questions, batch, scores)
        with redirect_stdout(sys.stderr):  # what a reward prints is for people: stdout may be somebody's JSON
            if self._apart is None:
                _run(calls, self.deadline_s)
            else:
                self._run_apart(calls, self._apart)
        for call in calls:
            self._settle(call, scores)
        for question, score in zip(questions, scores, strict=True):
            score.total = self._total(question, score)
        return scores

    def _calls(self, questions: Sequence[Question], batch: Mapping[str, Any], scores: list[Score]) -> list[_Call]:
        calls = []
        for question_id, group in itertools.groupby(range(len(questions)), key=lambda i: questions[i].id):
            indices = list(group)
            rows = range(indices[0], indices[-1] + 1)
            for spec in self.specs:
                if spec.weight_for(questions[rows.start].task) is None:
                    continue
                arguments: dict[str, Any] = {k: list(v[rows.start : rows.stop]) for k, v in batch.items()}
                arguments["word_vectors"] = self.word_vectors
                arguments["reasons"] = _noting(spec.name, scores, rows)
                calls.append(_Call(spec, rows, question_id, arguments))
        return calls

    def _run_apart(self, calls: Sequence[_Call], apart: Apart) -> None:
        """Sync functions one call at a time, each with its deadline; async ones together."""
        together = [call for call in calls if _is_async(call.spec.function)]
        for batch in [[call] for call in calls if call not in together] + ([together] if together else []):
            sent = [(self.specs.index(call.spec), _sendable(call.arguments)) for call in batch]
            margin = 2.0 if batch is together else 0.0  # _run has a deadline of its own for those
            try:
                answers = apart(sent, None if self.deadline_s is None else self.deadline_s + margin)
            except (TimeoutError, ChildLost) as error:
                answers = [(error, [])] * len(batch)
            for call, (outcome, notes) in zip(batch, answers, strict=True):
                call.outcome = outcome
                for i, text in notes:
                    call.arguments["reasons"](i, text)

    def _run_there(self, sent: Sequence[tuple[int, dict[str, Any]]]) -> list[tuple[Any, list[tuple[int, str]]]]:
        """In the child: the outcome of each call, and what it said."""
        calls, notes = [], []
        for index, arguments in sent:
            said: list[tuple[int, str]] = []
            own = {"word_vectors": self.word_vectors, "reasons": lambda i, text, said=said: said.append((i, text))}
            calls.append(_Call(self.specs[index], range(0), "", {**arguments, **own}))
            notes.append(said)
        _run(calls, self.deadline_s if _is_async(calls[0].spec.function) else None)
        return [(_sent_back(call.outcome), said) for call, said in zip(calls, notes, strict=True)]

    def _settle(self, call: _Call, scores: list[Score]) -> None:
        """Put one call's values into the scores, or its failure where on_error says."""
        name, values = call.spec.name, call.outcome
        fault = None
        if isinstance(values, BaseException):
            late = isinstance(values, TimeoutError) and self.deadline_s is not None
            fault = f"passed its deadline of {self.deadline_s:g} s" if late else f"raised {one_line(values)}"
            fault = f"ended its process: {values}" if isinstance(values, ChildLost) else fault
        elif isinstance(values, str | bytes) or not hasattr(values, "__len__") or not hasattr(values, "__iter__"):
            fault = f"returned {type(values).__name__}, not a list of rewards"
        elif len(values) != len(call.rows):
            fault = f"returned {len(values)} rewards for {len(call.rows)} completions"
        if fault is not None:
            self._fail(call, fault, call.rows, scores, values if isinstance(values, Exception) else None)
            return
        for row, value in zip(call.rows, values, strict=True):
            number = None if value is None else _number(value)
            if number is not None and not math.isfinite(number):
                self._fail(call, f"returned {value!r} for completion {row - call.rows.start}", [row], scores, None)
            else:
                scores[row].rewards[name] = number

    def _fail(self, call: _Call, fault: str, rows: Sequence[int], scores: list[Score], cause: Exception | None) -> None:
        function = getattr(call.spec.function, "__qualname__", type(call.spec.function).__name__)
        if self.on_error == "raise":
            raise AvstError(f"reward {call.spec.name!r} ({function}) {fault}; question {call.question_id}") from cause
        for row in rows:
            scores[row].reasons.setdefault(call.spec.name, []).append(f"abstained: {fault}")

    def _total(self, question: Question, score: Score) -> float:
        total = 0.0
        for spec in self.specs:
            reward, weight = score.rewards[spec.name], spec.weight_for(question.task)
            if reward is not None and weight is not None:
                total += weight * reward
        return total


def _noting(name: str, scores: list[Score], rows: range) -> Callable[[int, str], None]:
    def reasons(i: int, text: str) -> None:
        scores[rows[i]].reasons.setdefault(name, []).append(text)

    return reasons


def _number(value: object) -> float:
    """A reward as a float (numpy and torch scalars too); NaN for what is no number, so that it is refused by name."""
    if isinstance(value, numbers.Real):
        return float(value)
    item = getattr(value, "item", None)
    try:
        return float(item()) if callable(item) else math.nan
    except (TypeError, ValueError, RuntimeError):
        return math.nan


def _sendable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in ("word_vectors", "reasons")}


def _sent_back(outcome: Any) -> Any:
    """The outcome, or where it cannot be pickled an exception that says so."""
    try:
        pickle.loads(pickle.dumps(outcome))  # noqa: S301  (made here and now)
    except Exception as error:  # whatever a value's own pickling raises
        shown = one_line(outcome) if isinstance(outcome, BaseException) else type(outcome).__name__
        return TypeError(f"{shown}, which cannot be sent between processes ({one_line(error)})")
    return outcome


def _run(calls: Sequence[_Call], deadline_s: float | None) -> None:
    """Fill in every outcome. Async functions run side by side, as in TRL; sync ones one after the other."""
    waiting = [call for call in calls if _is_async(call.spec.function)]
    for call in calls:
        if call not in waiting:
            call.outcome = _outcome(partial(call.spec.function, **call.arguments), deadline_s)
    if not waiting:
        return

    async def all_of_them() -> list[Any]:
        jobs = (asyncio.wait_for(call.spec.function(**call.arguments), deadline_s) for call in waiting)
        return await asyncio.gather(*jobs, return_exceptions=True)

    # In a thread of its own: the caller may already be inside an event loop (a notebook). The second margin is for
    # functions that block instead of awaiting, which no event loop can interrupt.
    outcomes = _in_thread(lambda: asyncio.run(all_of_them()), None if deadline_s is None else deadline_s + 1.0)
    for i, call in enumerate(waiting):
        call.outcome = outcomes if isinstance(outcomes, BaseException) else outcomes[i]


def _outcome(function: Callable[[], Any], deadline_s: float | None) -> Any:
    if deadline_s is not None:
        return _in_thread(function, deadline_s)
    try:
        return function()
    except (Exception, SystemExit) as error:  # a plug-in's own code ran; _settle reports it by name
        return error


def _in_thread(function: Callable[[], Any], deadline_s: float | None) -> Any:
    """The function's value, its exception, or a TimeoutError when the deadline has passed."""
    box: list[Any] = []
    thread = threading.Thread(target=lambda: box.append(_outcome(function, None)), daemon=True)
    thread.start()
    thread.join(deadline_s)
    return box[0] if box else TimeoutError()


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
