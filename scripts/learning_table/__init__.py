"""The learning table: what SFT, GRPO, and GRPO without each of its rewards teach the packaged policy."""
