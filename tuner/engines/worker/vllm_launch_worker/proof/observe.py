"""Observes one launch: makes its config as the server does, then builds and traces the model of each rank."""

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from shared_worker.control import read_json, write_json
from shared_worker.installed import below_path
from shared_worker.vllm_types import Module, Region, VllmConfig
from vllm_launch_worker import forks, launch
from vllm_launch_worker.proof import building, first_call, groups, mixers, outside, regions
from vllm_launch_worker.proof.counter import counter_against
from vllm_launch_worker.proof.failure import COMPILED, NOT_TRACED, NOTHING_OUTSIDE, Failure, failure, raised
from vllm_launch_worker.proof.order import Order
from vllm_launch_worker.proof.origin import Origins, is_of_worker
from vllm_launch_worker.proof.patches import patches
from vllm_launch_worker.proof.reads import Reads, values
from vllm_launch_worker.proof.tracing import MOST_GUARDS, Trace, watching

VARIABLES = {"VLLM_USE_AOT_COMPILE": "0", "VLLM_DISABLE_COMPILE_CACHE": "1"}
"""These settings keep vLLM from storing or loading compiled code, so that it always traces. An ahead-of-time artifact
holds the same trace."""
MOST_FAILURES = 20
"""The largest number of failures in the report of a rank."""

IMPORT = Reads()
"""What was read while vLLM was imported. Each launch adds to it, in a fork of the process that imported vLLM."""


@cache
def origins() -> Origins:
    """Where each source file of this environment comes from. This is read once for all launches."""
    return Origins()


def prepare(control: Path) -> None:
    """Import vLLM and its plugins, once for all launches."""
    with IMPORT.of_variables():
        forks.import_engine(control)
        from vllm.plugins import load_general_plugins

        load_general_plugins()
        launch.parse(["model"])  # to make the parser takes seconds, and each fork would make it again
    origins()


def observe(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Observe a launch.

    Args:
        request: `args`: the arguments of `vllm serve`. `foreign`: whether to trace a launch with foreign code, although
            it is refused in any case.
        folder: a folder that only this process uses.

    Returns:
        The observations, in the form that `rules.report` of the host describes. `ranks`: one entry for each rank that
        may differ. `variables`, `fields` and `sources`: what was read (see `fork_rank`).
    """
    os.environ.update(VARIABLES)
    first = fork_rank(request, 0, folder)
    others = range(1, first["ranks"])
    return join_answers([first, *(fork_rank(request, number, folder) for number in others)])


def fork_rank(request: dict[str, Any], number: int, folder: Path) -> dict[str, Any]:
    """Observe one of the ranks that may differ, in a fork of this process.

    There are two reasons for the fork. vLLM's groups can be made only once in a process. To make the config may
    initialize the GPU, and a process that did so must not fork.

    Returns:
        `rank`: the report's entry. `variables`: name -> sha256 of the value. `fields`: the config fields that were
        read. `sources`: path -> sha256 of the file. `ranks`: the number of ranks that may differ.
    """
    file = folder / f"rank-{number}.json"

    def answer(_folder: Path) -> None:
        write_json(file, observe_rank(request["args"], number, foreign=request.get("foreign", False)))

    ending = forks.run_in_fork(answer, folder / f"rank-{number}")
    if file.exists():
        answer_of_fork: dict[str, Any] = read_json(file)
        return answer_of_fork
    return failed_answer(f"rank {number}", failure(NOT_TRACED, "rank_not_traced", rank=f"rank {number}", how=ending))


def observe_rank(args: list[str], number: int, *, foreign: bool = False) -> dict[str, Any]:
    """As `fork_rank`, but in this process."""
    begin = time.monotonic()
    with IMPORT.of_variables():
        try:
            vllm_config = config_of(args, IMPORT)
        except (Exception, SystemExit) as error:  # vLLM's parser raises SystemExit if it refuses an argument
            traceback.print_exc()
            return failed_answer("the launch", raised(NOT_TRACED, "not_built", error))
    seconds = {"config": round(time.monotonic() - begin, 3)}
    ranks = groups.ranks(vllm_config.parallel_config)
    name = groups.name_of(ranks[number], vllm_config.parallel_config)
    rank = Rank(vllm_config, ranks[number], IMPORT, seconds, foreign=foreign)
    return {**rank.observe(name), "ranks": len(ranks)}


def config_of(args: list[str], reads: Reads) -> VllmConfig:
    """Make the VllmConfig of the launch, as the API server does. `reads` records the functions that run."""
    arguments = launch.engine_args(args)
    with groups.devices_of_a_launch(), reads.of_code():
        return launch.config_of(arguments)


def failed_answer(name: str, reason: Failure) -> dict[str, Any]:
    """The answer for a rank that could not be observed."""
    entry = {"name": name, "status": "failed", "failures": [reason], "registered": [], "calls": [], "guards": []}
    rank = {**entry, "assumptions": [], "seconds": {}}
    return {"rank": rank, "variables": {}, "fields": [], "sources": {}, "ranks": 1}


def join_answers(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the answers of all ranks into one answer."""
    variables: dict[str, str] = {}
    sources: dict[str, str] = {}
    fields: set[str] = set()
    for answer in answers:
        variables.update(answer["variables"])
        sources.update(answer["sources"])
        fields.update(answer["fields"])
    ranks = [answer["rank"] for answer in answers]
    return {"ranks": ranks, "variables": variables, "fields": sorted(fields), "sources": sources}


class Rank:
    """One process of a launch.

    Args:
        vllm_config: the launch.
        rank: the data-parallel, pipeline and tensor rank.
        reads: what was read so far. This object adds to it.
        seconds: stage -> wall time in seconds. This object adds its own stages.
        foreign: whether to trace a launch with foreign code, although it is refused in any case.
    """

    def __init__(
        self, vllm_config: VllmConfig, rank: groups.Ranks, reads: Reads, seconds: dict[str, float], *, foreign: bool
    ) -> None:
        self.config, self.rank, self.reads, self.seconds = vllm_config, rank, reads, seconds
        self.foreign = foreign
        self.trace, self.outer_trace = Trace(), Trace()
        self.stand_ins = building.StandIns()
        self.origins = origins()
        self.failures: list[Failure] = []
        self.calls: list[str] = []
        self.layers: dict[str, Module] = {}

    def observe(self, name: str) -> dict[str, Any]:
        """Build and trace the model, and return the report's entry of this rank and what was read."""
        status = self._status()
        self._of_foreign_code()
        entry = {
            "name": name,
            "status": status,
            "failures": self.failures[:MOST_FAILURES],
            "registered": list(self.layers),
            "calls": self.calls,
            "guards": [guard.as_json() for guard in self.trace.sizes[:MOST_GUARDS]],
            "assumptions": self.stand_ins.assumptions,
            "seconds": self.seconds,
        }
        self.reads.of_guards([*self.trace.guards, *self.outer_trace.guards], self.config)
        self.reads.of_traced(self.trace.codes | self.outer_trace.codes)
        return {
            "rank": entry,
            "variables": values(self.reads.variables_of(origins()), self.reads.environ),
            "fields": sorted(self.reads.fields),
            "sources": self._sources(),
        }

    def _status(self) -> str:
        """Build and trace the model. Returns the status: `traced`, `not_compiled` or `failed`."""
        self.config.compilation_config.fast_moe_cold_start = False  # so that the graph holds the names of the layers
        try:
            model = self._build()
        except Exception as error:
            traceback.print_exc()
            self.failures.append(raised(NOT_TRACED, "not_built", error))
            return "failed"
        self.layers = regions.moe_layers(self.config)
        if not self.layers:
            self.failures.append(failure(NOT_TRACED, "no_moe_layer"))
            return "failed"
        decorated = regions.holders(model, self.layers)
        self.failures += regions.not_compiled(model, self.config, decorated)
        if self.failures:
            return "not_compiled"
        self.failures += regions.settings_against(self.config)
        self.failures += regions.regions_against(decorated, self.layers)
        self.failures += counter_against(self.config)
        if not self.foreign and self._foreign_files():
            return "failed"  # the launch is refused anyway, and the trace takes most of the time
        active = [module for module in decorated if not module.do_not_compile]
        self._trace_region(model, active[0])
        return "traced"

    def _build(self) -> Any:
        groups.join(self.config, self.rank)
        if self.config.parallel_config.world_size_across_dp > 1:
            self.stand_ins.note("groups_simulated", f"{self.config.parallel_config.world_size_across_dp} ranks")
        with ExitStack() as blocks:
            blocks.enter_context(self._stage("build"))
            blocks.enter_context(watching(self.trace))
            blocks.enter_context(self.reads.of_variables())
            blocks.enter_context(self.reads.of_fields(self.config))
            blocks.enter_context(self.reads.of_code())
            return building.build(self.config, self.stand_ins)

    def _trace_region(self, model: Module, region: Region) -> None:
        """Make vLLM's first call to trace the region, check its graph, and then trace the code around the region."""
        returned: list[Any] = []
        self.trace.looked_into(type(region).forward.__code__)
        try:
            with ExitStack() as blocks:
                blocks.enter_context(self._mixers(model, region))
                blocks.enter_context(self._stage("trace"))
                blocks.enter_context(watching(self.trace))
                blocks.enter_context(first_call.returns_of(region, returned))
                first_call.make_call(model, model, self.config)
        except Exception as error:
            traceback.print_exc()
            self.failures.append(raised(NOT_TRACED, "not_traced", error))
            return
        if not self.trace.filtered:
            self.failures.append(failure(COMPILED, "guards_not_seen"))
        if self.trace.keeps_guards:
            mode = self.config.compilation_config.mode
            self.failures.append(failure(COMPILED, "guards_kept", mode=getattr(mode, "name", str(mode))))
        if len(self.trace.graphs) != 1:
            self.failures.append(failure(COMPILED, "graphs", count=len(self.trace.graphs)))
            return
        order = Order(self.trace.graphs[0], list(self.layers), self.config.scheduler_config.max_num_batched_tokens)
        self.calls = order.calls
        self.failures += order.failures
        self.failures += regions.splits_against(self.config.compilation_config, order.operators)
        if len(returned) != 1:
            self.failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=len(returned)))
            return
        with self._stage("outside"):
            surroundings = outside.Outside(model, region, self.config, self.origins)
            self.failures += surroundings.failures(returned[0], self.outer_trace)

    @contextmanager
    def _mixers(self, model: Module, region: Region) -> Iterator[None]:
        """While the block runs, each of vLLM's own token mixers is one operator."""
        replaced = mixers.replace_mixers(
            model, region, self.layers, self.config, origins=self.origins, stand_ins=self.stand_ins
        )
        with ExitStack() as blocks:
            with self._stage("mixers"):  # the time to replace them, not the time of the block
                blocks.enter_context(replaced)
            yield

    def _of_foreign_code(self) -> None:
        """Add a failure for each file of foreign code, such as a plugin, a file of a model folder, or a changed file.

        Foreign code does not belong to vLLM or to a package that vLLM requires. It can do things that a trace does not
        show. For example, it may register an operator that changes the counter.
        """
        for file in self._foreign_files():
            self.failures.append(failure(COMPILED, "foreign_code", file=below_path(file)))
        for file in groups.classes_of_the_launch(self.config.parallel_config):
            if not self.origins.is_trusted(file):
                self.failures.append(failure(COMPILED, "foreign_code", file=below_path(file)))
        self.failures += patches(self.origins)
        for file in sorted(self.reads.listed):
            if not self.origins.is_trusted(file):
                self.failures.append(failure(NOT_TRACED, "reads_all_variables", file=below_path(file)))

    def _foreign_files(self) -> list[str]:
        """The files of foreign code that have run so far."""
        return [file for file in sorted(self._files()) if not self.origins.is_trusted(file)]

    def _files(self) -> set[str]:
        """All files whose code ran while the model was built and traced, without the files of this worker."""
        traced_files = {*self.trace.files, *self.outer_trace.files, *self.config.compilation_config.traced_files}
        run_files = {code.co_filename for code in self.reads.codes}
        return {file for file in run_files | traced_files if not file.startswith("<") and not is_of_worker(file)}

    def _sources(self) -> dict[str, Any]:
        """The digests of these files, without files of torch and Python.

        Returns:
            Path relative to the entry of `sys.path` -> sha256 in hexadecimal digits.
        """
        digests = {}
        for file in sorted(self._files()):
            digest = self.origins.counted_digest(file)
            if digest:
                digests[below_path(file)] = digest
        return digests

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)
