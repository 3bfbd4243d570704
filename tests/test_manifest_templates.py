"""`{{…}}` in a manifest stands for a value that another program puts there."""

from pathlib import Path

import pytest
from fake_environment import MIXTRAL, tuner
from test_manifest_documents import only

from tuner.manifests.find import launches_in

SET = """apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
spec:
  generators: [{{list: {{elements: [{{model: org/m}}]}}}}]
  template:
    spec:
      source:
        helm:
          valuesObject:
            servingEngineSpec:
              modelSpec:
              - name: a
                repository: vllm/vllm-openai
                tag: v0.19.1
                modelURL: {model}
                vllmConfig: {{extraArgs: {args}}}
"""
WORKFLOW = """apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec:
  templates:
  - container:
      image: vllm/vllm-openai:v0.19.1
      args: ["{{inputs.parameters.model}}", --port, "{{workflow.parameters.port}}"]
"""


def test_values_of_a_generator_are_not_known() -> None:
    """Each is one argument, whose value is that of the generator."""
    launch = only(
        "set.yaml", SET.format(model='"{{.model}}"', args='["--port", "{{.port}}", "--seed={{.seed}}", -tp, "2"]')
    )
    assert launch.args == ("{{.model}}", "--port", "{{.port}}", "--seed={{.seed}}", "-tp", "2")
    assert [word.unknown for word in launch.words] == [True, False, True, True, False, False]
    assert launch.hidden == ""


def test_parameters_of_a_workflow_are_not_known() -> None:
    """In a list of arguments, as in a set of applications."""
    assert [word.unknown for word in only("w.yaml", WORKFLOW).words] == [True, False, True]


def test_a_value_that_may_be_options_hides_them() -> None:
    """Where an option may stand, nobody knows how many arguments there are."""
    text = SET.format(model="org/m", args='[-tp, "2", "{{.more}}"]')
    assert only("set.yaml", text).hidden == "{{.more}}"


@pytest.mark.parametrize(
    ("line", "unknown", "hidden"),
    [
        ("vllm serve {{model}} --port {{port}} -tp 2", [True, False, True, False, False], ""),
        ("vllm serve org/m --port {{ port }}", [False, False, True, False, False], "{{…}}"),
        ("""vllm serve m -cc '{"a": {"b": {}}}'""", [False, False, False], ""),
    ],
)
def test_templates_in_shell_text(line: str, unknown: list[bool], hidden: str) -> None:
    """A shell splits one that holds spaces; JSON is not a template."""
    (launch,) = launches_in("run.sh", line)
    assert ([word.unknown for word in launch.words], launch.hidden) == (unknown, hidden)


@pytest.mark.parametrize(
    "args", ['["--port", "{{.port}}", "-tp={{.tp}}"]', "[\"-cc\", '{{cc}}']", '["--dtype={{.d}}"]']
)
def test_what_a_template_fills_in_is_neither_judged_nor_edited(tmp_path: Path, args: str) -> None:
    """No option is refused for a value that is not there yet, and an unknown config stays as it is."""
    file = tmp_path / "set.yaml"
    text = SET.format(model=MIXTRAL, args=args)
    file.write_text(text, encoding="utf-8")
    rules = {finding["rule"] for finding in tuner("check", "--json", file).document["findings"]}
    assert not rules & {"arguments-refused", "option-value", "option-unknown"}
    if "cc" in args:
        assert "arguments-hidden" in rules
        tuner("apply", "--write", file)
        assert file.read_text(encoding="utf-8") == text
