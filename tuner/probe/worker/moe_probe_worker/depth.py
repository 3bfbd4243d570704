"""Whether the cut model hid something: the model once more with every layer, before its cut form is believed.

A model cut to a few layers no longer skips its middle ones, and code that asks
for a layer by number may never find it. Every layer is built, a few scenarios
run, and every branch must turn out constant there; else the model with every
layer is explored instead of the cut one.
"""

from moe_probe_worker.exploration import Explorer
from moe_probe_worker.scenarios import learning, scenarios
from moe_probe_worker.stubs import Stubs
from moe_probe_worker.variants import Built, NotApplicable

NAME = "full_depth"
MOST_SCENARIOS = 4


def whole(job: dict) -> dict:
    """The job with every layer, and without the assumption that some were cut."""
    kept = [item for item in job["assumptions"] if item["kind"] != "layers_shrunk"]
    return {**job, "config": job["deep"], "assumptions": kept, "deep": None}


def full_depth(job: dict, report: dict) -> dict:
    """What `variants` adds to its entry for the model with every layer.

    Args:
        job: the model.
        report: what its cut form showed.

    Raises:
        NotApplicable: the cut took no layer away, or the cut form shows enough already.
    """
    if job["deep"] is None:
        raise NotApplicable("No layer was cut.")
    if leaves_the_order(report):
        raise NotApplicable("The cut model left the registered order already.")
    with Stubs() as stubs:
        built = Built(whole(job), {}, stubs, experts=False)
        passes = built.passes()
        explorer = Explorer(passes, built.model, passes.recorder)
        explorer.run(learning(scenarios(*passes.inputs([])))[:MOST_SCENARIOS], reaching=0.0)
        return {
            "registered": list(passes.recorder.layers),
            "scenarios": list(explorer.entries.values()),
            "detail": unlike(explorer),
        }


def unlike(explorer) -> str:
    """Why the cut model may not stand for this one; empty if every branch is constant."""
    report = explorer.report()
    if report["status"] != "ran":
        return report["detail"]
    open_ones = [one for one in report["branches"] if one["status"] != "constant"]
    return "; ".join(f"{one['file']}:{one['line']} `{one['condition']}`" for one in open_ones[:3])


def leaves_the_order(report: dict) -> bool:
    """Whether some pass ran no prefix of the registered order."""
    registered = report["registered"]
    orders = [order for scenario in report["scenarios"] for order in scenario["passes"]]
    return any(order != registered[: len(order)] for order in orders)


def must_be_explored(entry: dict) -> bool:
    """Whether the model with every layer has to be explored in place of the cut one."""
    return entry["status"] == "ran" and (bool(entry["detail"]) or leaves_the_order(entry))
