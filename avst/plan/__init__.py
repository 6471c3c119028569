"""What a run will take before it begins: tokens, memory by part, seconds by phase, hours, energy, money, and where the
limit lies from 1 to 1,024 cards. Everything here is reckoned (docs/scaling.md has the formulae and their errors)."""
