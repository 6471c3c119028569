"""Reward plug-ins, one a file: plain functions that a recipe names (`rewards.temporal:temporal_iou`)."""
