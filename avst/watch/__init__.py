"""avst watch: a run in the terminal, while it goes on or afterwards.

follow (what the run's folder holds by now) -> screen (rich renderables, of lines from curves and text from models made
harmless by safe_text).
"""
