"""avst plan against real steps: python -m scripts.plan_check (docs/scaling.md)."""
