"""Pods that ask to be managed: their label, and the annotations that admission leaves on them.

The names are part of the product: exported manifests, the service and `tuner check` use the same ones.
"""

PREFIX = "vllm-moe-tuner/"
"""Of every label, and of the annotations of exported files."""
ADMITTED = "admission.vllm-moe-tuner/"
"""Of the annotations of admission: those of an exported object may be handed on to its pods."""
LABEL = PREFIX + "launch"
"""Label of a pod that asks for its launch to be decided."""
MANAGED, REQUIRED = "managed", "required"
"""Its values: the pod starts without a decision where the service cannot be asked, or it does not start."""
COMPONENT = PREFIX + "component"
"""Label of the pods of the service itself, which are never touched."""
DECISION = ADMITTED + "decision"
"""Annotation: what a launch of the pod carries."""
VERDICT = ADMITTED + "verdict"
"""Annotation: the word of the verdict behind it."""
KEY = ADMITTED + "key"
"""Annotation: the key of that verdict."""
SKIP_REASON = ADMITTED + "skip-reason"
"""Annotation: why a launch was left alone."""
ANNOTATIONS = (DECISION, VERDICT, KEY, SKIP_REASON)
HANDLED = (DECISION, SKIP_REASON)
"""Annotations of which a pod that was admitted through the service has at least one."""
