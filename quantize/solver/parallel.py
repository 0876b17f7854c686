"""Several pieces of work beside each other, a thread each, torch's own threads shared out among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


def run_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Runs all jobs, as many at a time as torch has threads. Raises what the first failing one raised.

    Matrix products must not depend on the number of threads for the result to be the same everywhere; those of this
    package do not.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(jobs))
    if workers < 2:
        for job in jobs:
            job()
        return
    try:
        with ThreadPoolExecutor(workers, "solve", torch.set_num_threads, (threads // workers,)) as pool:
            futures = [pool.submit(_quietly, job) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        # What a worker sets for itself, the matrix library takes for everybody.
        torch.set_num_threads(threads)


def _quietly(job: Callable[[], None]) -> None:
    """Threads do not inherit inference mode."""
    with torch.inference_mode():
        job()
