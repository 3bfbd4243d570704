"""Runs many jobs in several workers at once. Each worker imports vLLM once and takes a share of the jobs."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from queue import SimpleQueue
from threading import Condition, Event, Thread

from rules.errors import ErrorKind, TunerError
from tuner.environment.environment import Environment
from tuner.probe.runner import Job, JobOutcome, run
from tuner.processes.limits import machine_memory
from tuner.processes.worker_process import Stopped

JOBS_A_WORKER = 8
"""On a CPU, one more worker pays for its import of vLLM from about this many jobs on."""
MEMORY_A_WORKER = 14 * 2**30
"""Bytes. On a CPU the largest probe of vLLM 0.19.1's registry took 13.9 GB (Qwen3-Omni after others), most take 4."""
WORTH_TAKING = 4
"""An idle worker takes half of another's jobs only if there are this many: it imports vLLM anew for them."""

Variables = Mapping[str, str]
"""Environment variables of one worker."""


def run_all(
    python: str,
    jobs: Sequence[Job],
    workers: Sequence[Variables],
    *,
    time_limit: float,
    on_stage: Callable[[int, str, int], None],
    memory_limit: int | None = None,
) -> Generator[JobOutcome, None, None]:
    """Probe every job; outcomes come as they are reached. All workers are gone when the generator ends or is closed.

    A job that failed for memory while others ran is tried again alone, after all others.

    Args:
        python: interpreter of the serving environment.
        jobs: the models; their indices differ.
        workers: variables for each worker; at most this many workers start.
        time_limit: seconds for each model, vLLM's import excluded.
        on_stage: gets the number of the worker, `import` or `probe`, and the index of the model; threads call it.
        memory_limit: bytes for each worker; None: the default.

    Raises:
        TunerError: kind `environment`, as from `run`, if no other worker could take over the jobs.
    """
    alone = list(jobs)
    if len(workers) > 1:
        alone = []
        pool = _Pool(python, jobs, workers[: len(jobs)], time_limit, on_stage, memory_limit=memory_limit)
        try:
            for outcome in pool.outcomes():
                if outcome.failure is not None and outcome.failure.kind is ErrorKind.MEMORY:
                    alone += [job for job in jobs if job.index == outcome.index]
                else:
                    yield outcome
        finally:
            pool.end()
    yield from run(
        python,
        alone,
        time_limit=time_limit,
        on_stage=lambda stage, index: on_stage(0, stage, index),
        variables=workers[0],
        memory_limit=memory_limit,
    )


class _Pool:
    """Threads that each watch a worker, and the jobs that no worker has begun."""

    def __init__(
        self,
        python: str,
        jobs: Sequence[Job],
        workers: Sequence[Variables],
        time_limit: float,
        on_stage: Callable[[int, str, int], None],
        *,
        memory_limit: int | None,
    ) -> None:
        self.python = python
        self.memory_limit = memory_limit
        self.workers = workers
        self.time_limit = time_limit
        self.on_stage = on_stage
        self.stop = Event()
        self.changed = Condition()
        self.at_work = len(workers)
        self.shares = [deque(jobs[seat :: len(workers)]) for seat in range(len(workers))]
        self.orphaned: deque[Job] = deque()
        self.failures: list[TunerError] = []
        self.messages: SimpleQueue[JobOutcome | BaseException | None] = SimpleQueue()
        self.threads = [Thread(target=self._watch, args=(seat,)) for seat in range(len(workers))]

    def outcomes(self) -> Generator[JobOutcome, None, None]:
        """The outcomes of all workers, until the last worker has nothing to do."""
        for thread in self.threads:
            thread.start()
        at_work = len(self.threads)
        while at_work:
            message = self.messages.get()
            if isinstance(message, BaseException):
                raise message
            if message is None:
                at_work -= 1
            else:
                yield message
        if self.orphaned:
            raise self.failures[0]

    def end(self) -> None:
        """Stop every worker, and wait until all are gone."""
        with self.changed:
            self.stop.set()
            self.changed.notify_all()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()

    def _watch(self, seat: int) -> None:
        try:
            while self._has_jobs(seat):
                self._serve(seat)
        except Stopped:
            pass
        except TunerError as failure:  # this worker does not start; the others may
            with self.changed:
                self.failures.append(failure)
                self.at_work -= 1
                self.changed.notify_all()
        except BaseException as error:  # noqa: BLE001  a thread's error is raised where its outcomes are read
            self.messages.put(error)
        finally:
            self.messages.put(None)

    def _has_jobs(self, seat: int) -> bool:
        """Whether this worker has something to do; waits while another worker may still leave jobs."""
        with self.changed:
            self.at_work -= 1
            while not self._take_share(seat):
                if not self.at_work or self.stop.is_set():
                    self.changed.notify_all()
                    return False
                self.changed.wait()
            self.at_work += 1
            return True

    def _take_share(self, seat: int) -> bool:
        """Give this worker a share if it has none: what a failed worker left, or half of a long share.

        Returns:
            Whether it has a share now.
        """
        mine, longest = self.shares[seat], max(self.shares, key=len)
        if not mine and self.orphaned:
            mine.extend(self.orphaned)
            self.orphaned.clear()
        elif not mine and len(longest) >= WORTH_TAKING:
            mine.extendleft(longest.pop() for _ in range(len(longest) // 2))
        return bool(mine)

    def _serve(self, seat: int) -> None:
        """Run this worker until its share is finished; meanwhile others may take jobs from the end of the share."""
        share = self.shares[seat]
        outcomes = run(
            self.python,
            tuple(share),
            time_limit=self.time_limit,
            on_stage=lambda stage, index: self.on_stage(seat, stage, index),
            variables=self.workers[seat],
            stop=self.stop,
            memory_limit=self.memory_limit,
        )
        with closing(outcomes):
            while job := self._begin_next(share):
                try:
                    self.messages.put(next(outcomes))
                except TunerError:
                    self._leave(job, share)
                    raise

    def _begin_next(self, share: deque[Job]) -> Job | None:
        with self.changed:
            return share.popleft() if share else None

    def _leave(self, job: Job, share: deque[Job]) -> None:
        with self.changed:
            self.orphaned.extend([job, *share])
            share.clear()


def worker_variables(
    environment: Environment, jobs: int, requested: int | None, environ: Mapping[str, str]
) -> list[Variables]:
    """The variables of each worker to start: they give it its part of the cores, and its own GPU.

    A single worker gets no variables: it sees what a server would see.

    Args:
        environment: the serving environment.
        jobs: how many models there are.
        requested: number of workers that the user asks for; None: one for each GPU, else what cores, memory and jobs
            allow.
        environ: this process's variables; those that the user set stay.
    """
    devices = _devices(environment, environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    suited = len(devices) or min(cores, machine_memory() // MEMORY_A_WORKER, math.ceil(jobs / JOBS_A_WORKER))
    count = max(1, min(requested or suited, jobs))
    if count == 1:
        return [{}]
    threads = {} if "OMP_NUM_THREADS" in environ else {"OMP_NUM_THREADS": str(max(1, cores // count))}
    if devices:
        return [threads | {"CUDA_VISIBLE_DEVICES": devices[seat % len(devices)]} for seat in range(count)]
    return [threads] * count


def _devices(environment: Environment, environ: Mapping[str, str]) -> list[str]:
    """The GPUs that a CUDA process here would see, by their names in CUDA_VISIBLE_DEVICES; none on other platforms."""
    if environment.platform != "cuda":
        return []
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [str(index) for index in range(environment.gpu_count)]
    return [name.strip() for name in chosen.split(",") if name.strip()]
