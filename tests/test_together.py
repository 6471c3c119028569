"""What is told as another process's end, and what is this one's own fault; and a launcher's signals."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch.distributed as dist

from avst import interrupt
from avst.errors import EndedElsewhere
from avst.interrupt import StopOnSignal
from avst.together import another_is_gone


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/third_party/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer"),
        RuntimeError("[.../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv operation"),
        dist.DistBackendError("NCCL error: remote process exited or there was a network error"),
        dist.DistStoreError("Connection closed by peer"),
    ],
)
def test_another_process_is_gone(error: RuntimeError) -> None:
    assert another_is_gone(error)


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError(
            "NCCL error: invalid usage, Duplicate GPU detected : rank 0 and rank 1 both on CUDA device"
        ),
        RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:464] op.preamble.length <= op.nbytes. 8 vs 4"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("a reward's own request timed out: timeout"),
        ValueError("Connection reset by peer"),
    ],
)
def test_a_fault_of_this_process_keeps_its_words(error: Exception) -> None:
    assert not another_is_gone(error)


def heard(stop: StopOnSignal, number: int) -> None:
    stop._hear(number, None)


@pytest.mark.parametrize("launched", [True, False])
def test_a_signal_that_a_launcher_passes_on_is_the_same_one(monkeypatch: pytest.MonkeyPatch, launched: bool) -> None:
    """Ctrl-C reaches the whole terminal, and torchrun sends SIGTERM besides. Two seconds later it is a second one."""
    clock, raised = [100.0], cast(list[int], [])
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(interrupt.signal, "raise_signal", raised.append)
    if launched:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    else:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    stop = StopOnSignal(lambda number: number, lambda: True)
    heard(stop, signal.SIGINT)
    clock[0] += 0.5
    heard(stop, signal.SIGTERM)
    assert raised == ([] if launched else [signal.SIGTERM])
    assert stop.heard == signal.SIGINT
    clock[0] += interrupt.ONCE
    heard(stop, signal.SIGTERM)
    assert raised[-1] == signal.SIGTERM


def test_no_broad_except_swallows_that_another_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal may come while a reward that may fail is running."""
    monkeypatch.setattr(interrupt, "first_failure", lambda: "process 1: no such clip")
    stop: Any = StopOnSignal(lambda number: number, lambda: True)
    with pytest.raises(EndedElsewhere, match="process 1: no such clip") as raised:
        heard(stop, signal.SIGTERM)
    assert not isinstance(raised.value, Exception)
