"""The cost of a training step: time by cause, memory of a rank by part, and utilisation."""
