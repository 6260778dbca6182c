"""How many examples tests draw that could go on forever: few each time, the same ones; with GEMMULE_EXAMPLES=N so many
times as many, and others each time."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("GEMMULE_EXAMPLES", "1"))


def drawing(examples: int, **options: int) -> settings:
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        **options,
    )
