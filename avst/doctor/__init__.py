"""`avst doctor`: what this machine and this installation can do, and the line that mends what they cannot.

Nothing here imports a heavy package into this process: packages, decoders and the GPU are tried in processes of their
own (probe.py), so a package that raises, crashes or hangs while it is imported becomes one line of the answer.
"""
