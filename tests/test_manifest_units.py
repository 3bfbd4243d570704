"""Launches in systemd units and in Dockerfiles, read as systemd and Docker read them."""

import pytest
from test_manifest_documents import FLAG, IMAGE, TRUE, appended, only, require_places

from tuner.manifests.files import is_manifest
from tuner.manifests.find import launches_in

UNIT = "[Unit]\nDescription=vllm serve no\n[Service]\n{}\n[Install]\nWantedBy=multi-user.target\n"


def service(entries: str) -> str:
    """A unit with these entries of its service."""
    return UNIT.format(entries)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("/opt/bin/vllm serve m --port 1", ("m", "--port", "1")),
        ("vllm serve m \\\n  --port 1 \\\n# vllm serve no\n  --x", ("m", "--port", "1", "--x")),
        (
            """vllm serve m --a '{"b": true}' --c "{\\"d\\": 1}" e\\sf""",
            ("m", "--a", '{"b": true}', "--c", '{"d": 1}', "e f"),
        ),
        ("-+vllm serve m", ("m",)),
        ("@/opt/bin/vllm server serve m", ("m",)),
        ("vllm serve m --a 50%% --b $$HOME", ("m", "--a", "50%", "--b", "$HOME")),
        (":vllm serve m --b $HOME", ("m", "--b", "$HOME")),
        ("/bin/bash -lc 'exec vllm serve m --port 1'", ("m", "--port", "1")),
        ("python3 -m vllm.entrypoints.openai.api_server --model m", ("--model", "m")),
        (f"/usr/bin/docker run --rm -p 1:1 {IMAGE} --model m", ("--model", "m")),
        ("/bin/true ; vllm serve m", ("m",)),
    ],
)
def test_commands_of_a_service(command: str, args: tuple[str, ...]) -> None:
    """Quotes, continued lines, prefixes, and what starts the server for the unit."""
    text = service(f"ExecStartPre=vllm serve no\nExecStart={command}")
    launch = only("vllm.service", text)
    assert (launch.args, launch.hidden, launch.shape) == (args, "", "systemd")
    if "%%" not in text and "\\s" not in text:
        require_places(text, [launch])


@pytest.mark.parametrize(
    "entry", ["ExecStop=vllm serve m", "#ExecStart=vllm serve m", "ExecStart=", "ExecStart=sleep 1"]
)
def test_units_that_start_something_else(entry: str) -> None:
    """Only what the unit starts is a launch."""
    assert launches_in("vllm.service", service(entry)) == []


def test_an_empty_entry_takes_back_the_ones_before_it() -> None:
    """As in a drop-in file."""
    assert only("x.service", service("ExecStart=vllm serve a\nExecStart=\nExecStart=vllm serve b")).args == ("b",)


def test_variables_of_a_service() -> None:
    """`${NAME}` is a part of a word, `$NAME` alone as many words as its value has."""
    entries = "Environment=A=a 'B=--x 1'\nEnvironment=\"C=c d\"\nExecStart=vllm serve ${A}/b $B --n ${C} --m x$A"
    launch = only("x.service", service(entries))
    assert launch.args == ("a/b", "--x", "1", "--n", "c d", "--m", "x$A")
    assert launch.env == {"A": "a", "B": "--x 1", "C": "c d"}
    assert [word.owner is None for word in launch.words] == [False, True, True, False, False, False, False]


def test_what_a_unit_does_not_say_is_not_known() -> None:
    """A file of variables comes behind the unit's own, and a specifier is the instance's."""
    entries = "Environment=A=a\nEnvironmentFile=/etc/v\nExecStart=vllm serve ${A} --port %i --x $ARGS"
    launch = only("x@.service", service(entries))
    assert [word.unknown for word in launch.words] == [True, False, True, False, True]
    assert launch.env == {"A": None, "VLLM_CACHE_ROOT": None, "XDG_CACHE_HOME": None, "HOME": None}
    assert only("x.service", service("ExecStart=vllm serve m $ARGS")).hidden == "$ARGS"


def test_a_service_is_edited_where_it_stands() -> None:
    """Behind the last argument, in the manner of the lines."""
    text = service("ExecStart=vllm serve m \\\n    --port 1\nRestart=always")
    assert appended("x.service", text) == text.replace("--port 1", f"--port 1 \\\n    {FLAG} '{TRUE}'")


@pytest.mark.parametrize(
    ("entries", "args"),
    [
        (f"Image={IMAGE}\nExec=--model m --port 1", ("--model", "m", "--port", "1")),
        (f"Image={IMAGE}", ()),
        ("Image=mine:1\nExec=vllm serve m", ("m",)),
        ("Image=mine:1\nEntrypoint=vllm\nExec=serve m", ("m",)),
        ("Image=mine:1\nPodmanArgs=--entrypoint vllm\nExec=serve m", ("m",)),
        (f"Image={IMAGE}\nEntrypoint=/bin/bash\nExec=-c 'vllm serve m'", ("m",)),
    ],
)
def test_quadlet_containers(entries: str, args: tuple[str, ...]) -> None:
    """`Exec` goes to the entrypoint of the file, or to that of the image."""
    text = f"[Container]\n{entries}\nEnvironment=A=1\nPodmanArgs=--env B=2 -e C --gpus all\n"
    launch = only("vllm.container", text)
    assert (launch.args, launch.env) == (args, {"A": "1", "B": "2", "C": None})
    assert (launch.image, launch.image_line) == (entries.partition("\n")[0].removeprefix("Image="), 2)
    require_places(text, [launch])


def test_quadlet_containers_that_start_something_else() -> None:
    """An entrypoint of the file takes the place of the image's."""
    assert launches_in("x.container", f"[Container]\nImage={IMAGE}\nEntrypoint=sleep\nExec=--model m\n") == []


def test_units_in_fenced_blocks() -> None:
    """In a guide, with the places of the file."""
    text = "```ini\n" + service("ExecStart=vllm serve m") + "```\n"
    require_places(text, [only("guide.md", text)])


@pytest.mark.parametrize(
    "text", ["ExecStart=" + "\\" * 80_000, "ExecStart=" + "'" * 80_001, "ExecStart=" + "\\\n#\n" * 20_000]
)
def test_long_units_end(text: str) -> None:
    """Each word is read once."""
    assert launches_in("x.service", f"[Service]\n{text}\n") == []


@pytest.mark.parametrize(
    ("text", "args"),
    [
        (f'FROM {IMAGE} AS base\nCMD ["m"]\nFROM base\n', ("m",)),
        (f'FROM {IMAGE} AS base\nENV A=1\nFROM --platform=x base AS last\nCMD ["m"]\n', ("m",)),
        ('FROM x AS base\nENTRYPOINT ["vllm", "serve"]\nFROM y\nCMD ["no"]\nFROM base\nCMD ["m"]\n', ("m",)),
        ('FROM x\nCMD ["m"]\nENTRYPOINT ["vllm", "serve"]\n', ("m",)),
        ('FROM x AS a\nCMD ["no"]\nFROM a\nENTRYPOINT ["vllm", "serve"]\n', ()),
    ],
)
def test_stages_of_a_dockerfile(text: str, args: tuple[str, ...]) -> None:
    """A stage has what the stage has that it builds upon."""
    assert only("Dockerfile", text).args == args


def test_the_image_of_a_stage_is_that_of_its_base() -> None:
    """A name of a stage is not an image."""
    launch = only("Dockerfile", f'FROM {IMAGE} AS base\nENV A=1\nFROM base\nENV B="x y" C=z\\\n D=$A\nCMD ["m"]\n')
    assert (launch.image, launch.image_line) == (IMAGE, 1)
    assert launch.env == {"A": "1", "B": "x y", "C": "z", "D": None}


@pytest.mark.parametrize(
    "value", ["a" * 80_000, "a=" * 40_000, 'a="' * 20_000, "a=b " * 20_000, "\\\n" * 40_000 + "a=b"]
)
def test_long_variables_end(value: str) -> None:
    """Each character is read once."""
    launch = only("Dockerfile", f'FROM {IMAGE}\nENV {value}\nCMD ["m"]\n')
    assert launch.args == ("m",)


def test_a_drop_in_is_read_as_the_unit_that_it_changes() -> None:
    """`override.conf` in a folder of the service, as `systemctl edit` writes it."""
    text = "[Service]\nExecStart=\nExecStart=/usr/bin/vllm serve a/b --port 1\n"
    (launch,) = launches_in("override.conf", text)
    assert (launch.shape, launch.line, launch.args) == ("systemd", 3, ("a/b", "--port", "1"))
    assert is_manifest("vllm.service.d/override.conf")
