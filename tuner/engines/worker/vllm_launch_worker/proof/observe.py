"""One launch: its config as the server makes it, each rank's model built and traced, and what was seen."""

import os
import time
import traceback
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from shared_worker.control import read_json, write_json
from shared_worker.installed import below_path
from vllm_launch_worker import forks, launch
from vllm_launch_worker.proof import building, first_call, groups, mixers, outside, regions
from vllm_launch_worker.proof.counter import counter_against
from vllm_launch_worker.proof.failure import COMPILED, NOT_TRACED, NOTHING_OUTSIDE, failure, raised
from vllm_launch_worker.proof.order import Order
from vllm_launch_worker.proof.origin import Origins
from vllm_launch_worker.proof.patched import patched
from vllm_launch_worker.proof.reads import Reads, values
from vllm_launch_worker.proof.tracing import MOST_GUARDS, Trace, watching

VARIABLES = {"VLLM_USE_AOT_COMPILE": "0", "VLLM_DISABLE_COMPILE_CACHE": "1"}
"""Nothing is stored or loaded: the trace is what counts, and ahead-of-time artifacts hold the same one."""
MOST_FAILURES = 20
"""Failures of a rank that are told."""


IMPORT = Reads()
"""What was read while vLLM was imported: each launch is a fork of the process that did."""


@cache
def origins() -> Origins:
    """Whose code the files of this environment are; read once for all launches."""
    return Origins()


def prepare(control: Path) -> None:
    """Import vLLM and its plugins, once for all launches."""
    with IMPORT.of_variables():
        forks.imported(control)
        from vllm.plugins import load_general_plugins

        load_general_plugins()
        launch.parsed(["model"])  # makes the parser, which takes seconds and would be made in each fork
    origins()


def observe(request: dict, folder: Path) -> dict:
    """What the launch shows: `ranks`, and what was read on the way (see `rules.report` of the host).

    Args:
        request: `args`, what stands behind `vllm serve`; `foreign`, whether code that is refused for whose it is, is
            traced all the same.
        folder: of this process alone.
    """
    os.environ.update(VARIABLES)
    first = of_rank(request, 0, folder)
    others = range(1, first["ranks"])
    return together([first, *(of_rank(request, number, folder) for number in others)])


def of_rank(request: dict, number: int, folder: Path) -> dict:
    """What one of the ranks that may differ shows, in a process of its own.

    vLLM's groups can be made once in a process, and reading the config may touch the GPU, after which none can fork.

    Returns:
        `rank`, `variables`, `fields`, `sources`; and `ranks`, how many may differ.
    """
    file = folder / f"rank-{number}.json"

    def answer(_folder: Path) -> None:
        write_json(file, seen(request["args"], number, foreign=request.get("foreign", False)))

    how = forks.forked(answer, folder / f"rank-{number}")
    if file.exists():
        return read_json(file)
    return unseen(f"rank {number}", failure(NOT_TRACED, "rank_not_traced", rank=f"rank {number}", how=how))


def seen(args: list, number: int, *, foreign: bool = False) -> dict:
    """As `of_rank`, in this process."""
    begin = time.monotonic()
    with IMPORT.of_variables():
        try:
            vllm_config = config_of(args, IMPORT)
        except (Exception, SystemExit) as error:  # vLLM's parser ends the process for arguments that it refuses
            traceback.print_exc()
            return unseen("the launch", raised(NOT_TRACED, "not_built", error))
    seconds = {"config": round(time.monotonic() - begin, 3)}
    ranks = groups.ranks(vllm_config.parallel_config)
    name = groups.name_of(ranks[number], vllm_config.parallel_config)
    rank = Rank(vllm_config, ranks[number], IMPORT, seconds, foreign=foreign)
    return {**rank.shown(name), "ranks": len(ranks)}


def config_of(args: list, reads: Reads):
    """The VllmConfig of the launch, as the API server makes it."""
    arguments = launch.engine_args(args)
    with groups.devices_of_a_launch(), reads.of_code():
        return launch.config_of(arguments)


def unseen(name: str, reason: dict) -> dict:
    """The answer for a rank of which nothing was seen."""
    entry = {"name": name, "status": "failed", "failures": [reason], "registered": [], "calls": [], "guards": []}
    rank = {**entry, "assumptions": [], "seconds": {}}
    return {"rank": rank, "variables": {}, "fields": [], "sources": {}, "ranks": 1}


def together(answers: list) -> dict:
    """One answer of all ranks."""
    variables, sources, fields = {}, {}, set()
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
        rank: data-parallel, pipeline and tensor rank.
        reads: what was read so far; extended.
        seconds: wall seconds by stage; extended.
        foreign: trace code that is refused for whose it is, too.
    """

    def __init__(self, vllm_config, rank: tuple, reads: Reads, seconds: dict, *, foreign: bool) -> None:
        self.config, self.rank, self.reads, self.seconds = vllm_config, rank, reads, seconds
        self.foreign = foreign
        self.trace, self.around = Trace(), Trace()
        self.standing = building.Standing()
        self.origins = origins()
        self.failures: list = []
        self.calls: list = []
        self.layers: dict = {}

    def shown(self, name: str) -> dict:
        """The report's entry of this rank, and what was read."""
        status = self._status()
        self._of_foreign_code()
        entry = {
            "name": name,
            "status": status,
            "failures": self.failures[:MOST_FAILURES],
            "registered": list(self.layers),
            "calls": self.calls,
            "guards": [guard.told() for guard in self.trace.sizes[:MOST_GUARDS]],
            "assumptions": self.standing.assumptions,
            "seconds": self.seconds,
        }
        self.reads.of_guards([*self.trace.guards, *self.around.guards], self.config)
        self.reads.of_traced(self.trace.codes | self.around.codes)
        return {
            "rank": entry,
            "variables": values(self.reads.variables, self.reads.environ),
            "fields": sorted(self.reads.fields),
            "sources": self._sources(),
        }

    def _status(self) -> str:
        """Build and trace; `traced`, `not_compiled` or `failed`."""
        self.config.compilation_config.fast_moe_cold_start = False  # the graph then names the layers
        try:
            model = self._built()
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
        if not self.foreign and self._strange():
            return "failed"  # no trace could prove it, and a trace takes most of the time
        active = [module for module in decorated if not module.do_not_compile]
        self._traced(model, active[0])
        return "traced"

    def _built(self):
        groups.join(self.config, self.rank)
        if self.config.parallel_config.world_size_across_dp > 1:
            self.standing.note("groups_simulated", f"{self.config.parallel_config.world_size_across_dp} ranks")
        watched = (self.reads.of_variables(), self.reads.of_fields(self.config), self.reads.of_code())
        with self._stage("build"), watching(self.trace), watched[0], watched[1], watched[2]:
            return building.built(self.config, self.standing)

    def _traced(self, model, region) -> None:
        """Trace the region by vLLM's own first call, read its graph, and trace what is around it."""
        returned: list = []
        self.trace.looked_into(type(region).forward.__code__)
        try:
            with ExitStack() as around:
                around.enter_context(self._mixers(model, region))
                around.enter_context(self._stage("trace"))
                around.enter_context(watching(self.trace))
                around.enter_context(first_call.returns_of(region, returned))
                first_call.made(model, model, self.config)
        except Exception as error:
            traceback.print_exc()
            self.failures.append(raised(NOT_TRACED, "not_traced", error))
            return
        if not self.trace.filtered:
            self.failures.append(failure(COMPILED, "guards_not_seen"))
        if len(self.trace.graphs) != 1:
            self.failures.append(failure(COMPILED, "graphs", count=len(self.trace.graphs)))
            return
        order = Order(self.trace.graphs[0], list(self.layers), self.config.scheduler_config.max_num_batched_tokens)
        self.calls = order.calls
        self.failures += order.failures
        if len(returned) != 1:
            self.failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=len(returned)))
            return
        with self._stage("outside"):
            self.failures += outside.Outside(model, region, self.config, self.origins).failures(
                returned[0], self.around
            )

    @contextmanager
    def _mixers(self, model, region):
        """While the block runs, vLLM's own token mixers are operators."""
        with ExitStack() as ends:
            with self._stage("mixers"):
                whose = {"origins": self.origins, "standing": self.standing}
                ends.enter_context(mixers.stood_in(model, region, self.layers, self.config, **whose))
            yield

    def _of_foreign_code(self) -> None:
        """Code that is neither vLLM's own nor of what vLLM requires: a plugin, a model folder, a changed file.

        Such code can do what no trace shows, as an operator of its own that changes the counter.
        """
        for file in self._strange():
            self.failures.append(failure(COMPILED, "foreign_code", file=below_path(file)))
        for file in groups.classes_of_the_launch(self.config.parallel_config):
            if not self.origins.is_trusted(file):
                self.failures.append(failure(COMPILED, "foreign_code", file=below_path(file)))
        self.failures += patched(self.origins)
        for file in sorted(self.reads.listed):
            if not self.origins.is_trusted(file):
                self.failures.append(failure(NOT_TRACED, "reads_all_variables", file=below_path(file)))

    def _strange(self) -> list:
        """The files of such code that ran so far."""
        return [file for file in sorted(self._files()) if not self.origins.is_trusted(file)]

    def _files(self) -> set:
        """Every file whose code ran while the model was built and traced, but this package's own."""
        traced = {*self.trace.files, *self.around.files, *self.config.compilation_config.traced_files}
        ran = {code.co_filename for code in self.reads.codes}
        own = str(Path(__file__).parents[1])
        return {file for file in ran | traced if not file.startswith("<") and not file.startswith(own)}

    def _sources(self) -> dict:
        """sha256 of each such file that is no part of torch or Python, by path below its `sys.path` entry."""
        digests = {}
        for file in sorted(self._files()):
            digest = self.origins.counted(file)
            if digest:
                digests[below_path(file)] = digest
        return digests

    @contextmanager
    def _stage(self, name: str):
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)
