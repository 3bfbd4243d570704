"""The acceptance run: a real API server of Kubernetes asks the real service when pods are created.

`make acceptance` runs it and writes docs/evidence/admission.md. It is not part of `make test`: the first run compiles
kube-apiserver, and every run needs etcd.
"""

from tools.evidence import ROOT  # importing it also makes the tests' helpers importable

__all__ = ["ROOT"]
