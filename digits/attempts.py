"""The repetition of a pipeline's step on Kubeflow while a server that it needs does not answer.

Kubeflow's workflow controller retries only pods that were lost, not steps that failed: its default `retryPolicy` is
OnError, and KFP's compiler cannot write another one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from digits import events
from digits.errors import Unavailable
from digits.settings import Settings

FIRST_WAIT, MAX_WAIT = 10.0, 120.0  # seconds; each wait is twice as long as the one before

P = ParamSpec("P")
T = TypeVar("T")


def step(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for the function of the step `name`, which reports its events.

    On Kubeflow it also calls the function again, DIGITS_STEP_RETRIES times, after an Unavailable error.
    """

    def decorator(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            settings = Settings.load()
            for attempt in range(settings.step_retries if settings.backend == "kubeflow" else 0):
                try:
                    return function(*args, **kwargs)
                except Unavailable as exc:
                    wait = min(FIRST_WAIT * 2**attempt, MAX_WAIT)
                    events.emit("progress", name, text=f"{exc.message}; trying again in {wait:.0f} s")
                    time.sleep(wait)
            return function(*args, **kwargs)

        return events.reported(name)(wrapper)

    return decorator
