"""etcd, kubectl and kube-apiserver: from Debian's packages, and from Debian's source of Kubernetes 1.20.

Debian 12 has etcd and kubectl as packages. It has kube-apiserver only as source; 1.20 is the last release whose source
is complete there. Two things in it are corrected:

- `pkg/generated/openapi/zz_generated.openapi.go` is left out. The source's own generator makes it, and its
  report of broken rules must be equal to the list in the source.
- The library `reflect2` in the source crashes under Go 1.18 and later. Debian's own package of it takes its place.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tools.acceptance.debian import Archive
from tools.acceptance.progress import tell

PROGRAMS = {"etcd": "etcd-server", "kubectl": "kubernetes-client"}
"""Program -> the package of Debian that contains it."""
COMPILER = ("golang-1.19-go", "golang-1.19-src")
REFLECT = "golang-github-modern-go-reflect2-dev"
RELEASE = "1.20"
KUBERNETES = "k8s.io/kubernetes"
VENDOR = f"{KUBERNETES}/vendor/k8s.io"
VERSIONED = (f"{VENDOR}/component-base/version", f"{VENDOR}/client-go/pkg/version")
"""Packages into which a build of Kubernetes writes its version."""
TAG = "+k8s:openapi-gen="
UNDESCRIBED = {"code-generator", "sample-apiserver", "_examples", "testdata"}
"""Folders that the source's own Makefile does not describe in the generated file."""
PROGRESS_EVERY_S = 60
SOURCES_OF_PROGRAMS = "packages.json"


def programs(folder: Path) -> tuple[Path, list[str]]:
    """The folder with the programs, and the packages of Debian that they come from. The first run makes the folder.

    Args:
        folder: what is kept for the next run.

    Raises:
        SystemExit: they cannot be made; the message says what failed.
    """
    ready, package_list = folder / "bin", folder / "bin" / SOURCES_OF_PROGRAMS
    if not package_list.is_file():
        work = folder / "work"
        draft = work / "bin"
        draft.mkdir(parents=True, exist_ok=True)
        packages = _make(work, draft)
        (draft / SOURCES_OF_PROGRAMS).write_text(json.dumps(packages), encoding="utf-8")
        shutil.rmtree(ready, ignore_errors=True)
        draft.rename(ready)
        shutil.rmtree(work)
    return ready, list(json.loads(package_list.read_text(encoding="utf-8")))


def _make(work: Path, target: Path) -> list[str]:
    """Put the programs into a folder, and return the packages that they were made of."""
    tell("fetching etcd, kubectl, a Go compiler and the source of Kubernetes from Debian (0.2 GB)")
    archive = Archive(work / "debian")
    packages = archive.unpack(*PROGRAMS.values(), *COMPILER, REFLECT)
    for program in PROGRAMS:
        shutil.copy2(archive.root / "usr" / "bin" / program, target / program)
    path = work / "go"
    source = path / "src" / KUBERNETES
    shutil.rmtree(source, ignore_errors=True)
    source.parent.mkdir(parents=True, exist_ok=True)
    packages.append(archive.unpack_source("kubernetes", source))
    if f"really{RELEASE}" not in packages[-1]:
        raise SystemExit(f"Debian's source is {packages[-1]}. It must be of Kubernetes {RELEASE}, which Debian 12 has.")
    reflect = Path("github.com", "modern-go", "reflect2")
    shutil.rmtree(source / "vendor" / reflect)
    shutil.copytree(archive.root / "usr" / "share" / "gocode" / "src" / reflect, source / "vendor" / reflect)
    compiler = _Compiler(archive.root / "usr" / "lib" / "go-1.19", path, source)
    _generate(compiler, work)
    version = "v" + packages[-1].partition("really")[2].partition("-")[0]
    _build_server(compiler, version, target / "kube-apiserver")
    return packages


class _Compiler:
    """Go, with the source of Kubernetes and the libraries in it, and without a network.

    Args:
        root: of the compiler.
        path: what Go calls GOPATH; its cache lies there, too.
        source: of Kubernetes, in which commands run.
    """

    def __init__(self, root: Path, path: Path, source: Path) -> None:
        self.source = source
        self._go = root / "bin" / "go"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GO")},
            "GOROOT": str(root),
            "GOPATH": str(path),
            "GOCACHE": str(path / "cache"),
            "GO111MODULE": "off",
            "GOPROXY": "off",
            "CGO_ENABLED": "0",
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        }

    def build(self, target: Path, package: str, *options: str) -> None:
        """Compile a program."""
        self.run(str(self._go), "build", *options, "-o", str(target), package)

    def run(self, *words: str) -> None:
        """Run a command with low priority, and print a line each minute while it runs."""
        begin = time.monotonic()
        log = self.source.parent / "compiler.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["nice", "-n", "10", *words],  # noqa: S607  of the system
                cwd=self.source,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            while not _ended(process):
                tell(f"  still running after {time.monotonic() - begin:.0f} s")
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise SystemExit(f"{words[0]} ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")


def _ended(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a process ends before the next line of progress is due."""
    try:
        process.wait(PROGRESS_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _generate(compiler: _Compiler, work: Path) -> None:
    """Make the description of the API that the source lacks."""
    tell("generating the description of the API that the source lacks")
    generator, report = work / "openapi-gen", work / "breaches.list"
    compiler.build(generator, "./vendor/k8s.io/kube-openapi/cmd/openapi-gen")
    described = sorted(_described_folders(compiler.source))
    compiler.run(
        str(generator),
        *("--logtostderr", "--input-dirs", ",".join(f"{KUBERNETES}/{folder}" for folder in described)),
        *("--output-package", f"{KUBERNETES}/pkg/generated/openapi", "--output-file-base", "zz_generated.openapi"),
        *("--go-header-file", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"),
        *("--report-filename", str(report)),
    )
    exceptions = compiler.source / "api" / "api-rules" / "violation_exceptions.list"
    if report.read_bytes() != exceptions.read_bytes():
        raise SystemExit(f"The generated description breaks other rules than {exceptions} lists; see {report}.")


def _described_folders(source: Path) -> Iterator[str]:
    """Folders with types that the description is to have."""
    for top in ("pkg", "vendor/k8s.io"):
        for folder, below, files in os.walk(source / top, followlinks=True):
            below[:] = [name for name in below if name not in UNDESCRIBED]
            texts = (Path(folder, name).read_text(encoding="utf-8") for name in files if name.endswith(".go"))
            if any(TAG in text for text in texts):
                yield str(Path(folder).relative_to(source))


def _build_server(compiler: _Compiler, version: str, target: Path) -> None:
    """Compile kube-apiserver."""
    tell(f"compiling kube-apiserver {version} (some 10 minutes of one core)")
    major, minor, _ = version.removeprefix("v").split(".")
    parts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    values = [f"-X {package}.{name}={value}" for package in VERSIONED for name, value in parts.items()]
    compiler.build(target, "./cmd/kube-apiserver", "-ldflags", " ".join(values))
