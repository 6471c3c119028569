"""Ablation: one recipe, some of its parts taken out or changed one at a time, each with several seeds, one table.

plan (which cells there are) -> cell (train and evaluate one, or go on with it) -> gather (answers -> differences)
-> table, plot.
"""
