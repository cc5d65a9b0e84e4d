"""How the learning rate changes with the step."""

RUNGS = 20


def rise(step: int, warmup_steps: int) -> float:
    """Factor on the learning rate at `step`, counted from 0, of a warm-up that reaches 1 at `warmup_steps`.

    It grows in twentieths from 0, as published: every 50 steps of 1,000.
    """
    return step * RUNGS // warmup_steps / RUNGS if step < warmup_steps else 1.0


def fall(epoch: int, decay: float, decay_from: int) -> float:
    """Factor on the learning rate in `epoch`, counted from 1: `decay` for every epoch from `decay_from` on."""
    return decay ** max(0, epoch - decay_from + 1)
