"""Credentials do not leave the machine by way of a shared folder; ordinary words do."""

from __future__ import annotations

import pytest

from avst.secrets import without_secrets, words_without_secrets

TOKEN = "hf_" + "aB3" * 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grpo.hub_token=abc", "grpo.hub_token=(not saved)"),
        ("grpo={hub_token: abc, beta: 0}", "grpo={hub_token: (not saved), beta: 0}"),
        ("WANDB_API_KEY=12345 avst train", "WANDB_API_KEY=(not saved) avst train"),
        ("https://me:pw@host/videos", "https://(not saved)@host/videos"),
        (f"read with {TOKEN}.", "read with (not saved)."),
        ("eval.max_new_tokens=32", "eval.max_new_tokens=32"),
        ("completions/tokens: 3", "completions/tokens: 3"),
        ("model.path=tokens/a tokenizer: b", "model.path=tokens/a tokenizer: b"),
    ],
)
def test_what_names_or_looks_like_a_credential_is_blotted_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_what_the_environment_holds_as_a_credential_is_found_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "correct horse")
    monkeypatch.setenv("MY_FOLDER", "battery staple")
    assert without_secrets("a correct horse, a battery staple") == "a (not saved), a battery staple"


def test_a_credential_behind_its_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_without_secrets(["avst", "--token", "abc", "--seed", "1"]) == [
        *("avst", "--token", "(not saved)", "--seed", "1"),
    ]
