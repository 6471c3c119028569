"""The decoding process: hangs, crashes, forks, loader workers, and the parent's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avst.media import MediaError, MediaSettings, load_clip, probe, process
from tests.media.make_media import numbers_of

EXPECTED = [0, 12, 25, 37, 50, 62, 75, 87]


def worker_pids() -> list[int]:
    return [worker.child.pid for worker in process._idle]


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Has the process ended (a zombie has)?"""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program of the test's own in the worker's place."""
    program = tmp_path / "fake_worker.py"
    program.write_text(textwrap.dedent(body))
    process.close_workers()
    monkeypatch.setattr(process, "COMMAND", (sys.executable, str(program)))


def test_a_stopped_worker_is_killed_at_the_deadline_and_replaced(film) -> None:
    path = film()
    load_clip(path)
    (pid,) = worker_pids()
    os.kill(pid, signal.SIGSTOP)  # a real hang: it neither answers nor ends
    with pytest.raises(MediaError, match=r"a\.mp4: decoding took longer than 0\.5 s"):
        load_clip(path, MediaSettings(deadline_s=0.5))
    assert gone(pid)
    assert numbers_of(load_clip(path).frames) == EXPECTED
    assert worker_pids() != [pid]


def test_a_worker_that_sleeps_in_the_middle_of_a_clip(film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film()
    fake_worker(
        tmp_path,
        monkeypatch,
        """
        import sys, time
        from avst.media import protocol
        protocol.read_message(sys.stdin.buffer)
        sys.stdout.buffer.write(protocol.pack({"kind": "begun"}))
        head = {"kind": "clip", "shape": [4, 8, 8, 3], "info": {}, "times_s": [], "fps": 2}
        sys.stdout.buffer.write(protocol.pack(head))
        sys.stdout.buffer.write(protocol.pack({"kind": "frame", "bytes": 192}) + bytes(100))
        sys.stdout.buffer.flush()
        time.sleep(600)
        """,
    )
    with pytest.raises(MediaError, match="took longer than 3 s"):
        load_clip(path, MediaSettings(deadline_s=3))
    assert worker_pids() == []


@pytest.mark.parametrize(
    ("last_act", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import sys; sys.exit('out of luck')", "status 1: out of luck"),
        ("import os; os.write(1, b'\\xff' * 64)", "it sent no message"),
        ("os.write(1, pack({'kind': 'done'}))", "where clip was due"),
    ],
)
def test_a_crash_names_the_file_and_the_cause(
    film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_act: str, said: str
) -> None:
    path = film()
    begun = "import os\nfrom avst.media.protocol import pack\nos.write(1, pack({'kind': 'begun'}))"
    fake_worker(tmp_path, monkeypatch, f"import sys\nsys.stdin.buffer.read(10)\n{begun}\n{last_act}\n")
    with pytest.raises(MediaError, match=r"a\.mp4: the decoder crashed on this file") as caught:
        load_clip(path)
    assert said in str(caught.value)


def test_a_worker_killed_while_idle_is_replaced_without_a_word(film) -> None:
    path = film()
    load_clip(path)
    (pid,) = worker_pids()
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert numbers_of(load_clip(path).frames) == EXPECTED


def test_a_worker_that_dies_unseen_is_replaced_too(film, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies after it was found alive, with the request already in its pipe."""
    path = film()
    load_clip(path)
    send = process.Worker.send

    def send_to_the_dying(worker: process.Worker, request: dict[str, object]) -> None:
        if worker.served:
            os.kill(worker.child.pid, signal.SIGSTOP)  # the request goes into the pipe, and is never read
            send(worker, request)
            os.kill(worker.child.pid, signal.SIGKILL)
        else:
            send(worker, request)

    monkeypatch.setattr(process.Worker, "send", send_to_the_dying)
    assert numbers_of(load_clip(path).frames) == EXPECTED


def test_a_worker_retires_after_many_clips(film, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film()
    process.close_workers()
    monkeypatch.setattr(process, "RETIRE_AFTER", 2)
    load_clip(path)
    (pid,) = worker_pids()
    load_clip(path)
    assert worker_pids() == []
    assert gone(pid)


def test_control_c_is_left_to_the_parent(film) -> None:
    path = film()
    load_clip(path)
    (pid,) = worker_pids()
    os.kill(pid, signal.SIGINT)
    assert numbers_of(load_clip(path).frames) == EXPECTED
    assert worker_pids() == [pid]


def test_threads_get_a_worker_each(film) -> None:
    path = film()
    with ThreadPoolExecutor(3) as pool:
        clips = list(pool.map(lambda _: load_clip(path), range(9)))
    assert all(numbers_of(clip.frames) == EXPECTED for clip in clips)
    assert 1 <= len(worker_pids()) <= 3


def test_a_forked_child_has_a_worker_of_its_own(film) -> None:
    path = film()
    load_clip(path)
    before = worker_pids()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = numbers_of(load_clip(path).frames) == EXPECTED
            os.write(write, f"{worker_pids()[0]} {int(good)}".encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    own, good = os.read(read, 100).decode().split()
    assert good == "1"
    assert int(own) not in before
    assert gone(int(own))  # it ended with the child, though the child never said goodbye
    assert numbers_of(load_clip(path).frames) == EXPECTED
    assert worker_pids() == before


def test_a_fork_while_another_thread_holds_the_lock(film) -> None:
    path = film()
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with process._lock:
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(30)
            load_clip(path)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert status == 0


def test_inside_daemonic_loader_workers(film) -> None:
    torch = pytest.importorskip("torch")
    path = film()

    class Clips(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int):
            return torch.from_numpy(load_clip(path).frames)

    load_clip(path)  # the parent has a worker when it forks
    before = worker_pids()
    loader = torch.utils.data.DataLoader(Clips(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert [numbers_of(frames.numpy()) for frames in loader] == [EXPECTED] * 6
    assert numbers_of(load_clip(path).frames) == EXPECTED
    assert worker_pids() == before


@pytest.mark.parametrize("busy", [False, True])
def test_the_worker_dies_with_its_parent(film, busy: bool) -> None:
    """The parent is killed outright, while its worker is idle, or stopped in the middle of an answer nobody reads."""
    path = film()
    program = f"""
        import os, time
        from avst.media import load_clip, process
        load_clip({str(path)!r})
        if {busy}:
            worker = process._take()
            ask = dict(op="decode", path={str(path)!r}, fps=25, max_frames=None, size=[1600, 1200], audio_rate=None)
            ask |= dict(channels="mono", decoder="pyav", deadline_s=60)
            worker.send(ask)
            if os.fork() == 0:  # a sibling holds the pipes open
                os.close(1)
                time.sleep(15)
                os._exit(0)
        else:
            worker = process._idle[0]
        print(worker.child.pid, flush=True)
        time.sleep(60)
        """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(worker)


def test_importing_needs_neither_torch_nor_av() -> None:
    program = "import sys, avst.media; print([m for m in ('torch', 'av', 'soxr') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_the_worker_does_not_import_torch(film) -> None:
    path = film()
    probe(path)
    load_clip(path)
    maps = Path(f"/proc/{worker_pids()[0]}/maps")
    assert "libtorch" not in maps.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_and_the_system_ends_decoders_first(film, monkeypatch: pytest.MonkeyPatch) -> None:
    """A film whose pictures do not fit is refused in a line; the process lives on, and does the next one."""
    large = film("large.mp4", times_s=[i / 25 for i in range(8)], size=(3840, 2160), options={"preset": "ultrafast"})
    small = film("small.mp4")
    close = process.close_workers
    close()
    monkeypatch.setenv("AVST_DECODER_MEMORY_GB", "0.15")
    with pytest.raises(MediaError, match=r"large\.mp4: ") as caught:
        load_clip(large, MediaSettings(size=(64, 36)))
    assert "\n" not in str(caught.value)
    assert numbers_of(load_clip(small).frames) == EXPECTED
    (pid,) = worker_pids()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if line.startswith("Max data size")).split()[3] == "150000000"
    close()
    monkeypatch.delenv("AVST_DECODER_MEMORY_GB")
    assert load_clip(large, MediaSettings(size=(64, 36))).frames.shape == (2, 36, 64, 3)
    close()
