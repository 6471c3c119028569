"""How avst/models/tiny_omni was made: a tiny Omni taught by SFT on endless fresh scenes."""
