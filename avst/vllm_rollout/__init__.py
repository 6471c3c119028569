"""Rollouts by vLLM, on a server (`vllm serve`) or in the training process. Not yet run on a GPU by us.

    sampler.py      what the trainer calls: weights over, prompts out, answers checked, groups back
    engine.py       what a vLLM is asked and what it answers, whichever way it is reached
    server.py       … over HTTP (http.py), media as data URLs (container.py)
    colocated.py    … as an object in this process
    weights.py      which weights changed, and what vLLM calls them
    build.py        TRL's options -> a sampler

Read in vLLM 0.30 and TRL 1.16.
"""
