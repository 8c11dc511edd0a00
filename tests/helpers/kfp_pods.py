"""Run a compiled pipeline as real pods, each as soon as those before it have ended, as Kubeflow Pipelines 2.17 does.

A pod has what the compiled pipeline and its platform part specify, and what Kubeflow's compiler adds to every step: no
privilege escalation, no capabilities, the runtime's seccomp profile, scratch folders, and the pod's name and id.
Artifacts pass through the object store; `kfp_launcher.py` replaces Kubeflow's launcher in the pod.
"""

from __future__ import annotations

import graphlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digits.results import normalize_numbers
from digits.store import ObjectStore

Json = dict[str, Any]
LAUNCHER = Path(__file__).with_name("kfp_launcher.py")
OUTPUTS = "/tmp/kfp/outputs"
FIELDS = {"KFP_POD_NAME": "metadata.name", "KFP_POD_UID": "metadata.uid"}  # variables of each pod
SCRATCH = {"minio": "/minio", "dot-local": "/.local", "dot-cache": "/.cache", "dot-config": "/.config"}
POD_SECONDS = 900


class StepError(Exception):
    """A step's pod failed; the message has its log."""


@dataclass
class Driver:
    """One run.

    Attributes:
        spec: {"pipeline_spec", "platform_spec"}, as they are submitted.
        run_id: names the run's pods and artifacts.
        kubectl: runs kubectl in the run's namespace and returns its standard output.
        store: the object store that the pods' launcher writes to, reached from here.
        account: the ServiceAccount of the run's pods.
        parameters: the run's.
    """

    spec: Json
    run_id: str
    kubectl: Callable[..., str]
    store: ObjectStore
    account: str
    parameters: Json
    outputs: dict[str, Json] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pipeline = self.spec["pipeline_spec"]
        self.platform = self.spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        defaults = self.pipeline["root"]["inputDefinitions"]["parameters"]
        self.parameters = {key: item.get("defaultValue") for key, item in defaults.items()} | self.parameters
        self.steps = self._expanded()
        self.kubectl(
            *("create", "configmap", f"launcher-{self.run_id}", f"--from-file=launcher.py={LAUNCHER}"),
        )

    def run(self) -> dict[str, Json]:
        """Run all steps and return {step: its output parameters}. Raises StepError at the first that fails."""
        order = graphlib.TopologicalSorter({name: step.get("dependentTasks", []) for name, step in self.steps.items()})
        order.prepare()
        while order.is_active():
            started = {name: self.start(name) for name in order.get_ready()}
            for name, pod in started.items():
                self.finish(name, pod)
            order.done(*started)
        return {name: output["parameterValues"] for name, output in self.outputs.items()}

    def step(self, name: str) -> None:
        """Run one step in its own pod. Raises StepError."""
        self.finish(name, self.start(name))

    def finish(self, name: str, pod: str) -> None:
        """Wait until the pod of a step has ended, and read its log and outputs. Raises StepError."""
        began = time.monotonic()
        phase = self._ended(pod)
        self.logs[name] = self.kubectl("logs", pod) if phase != "Pending" else ""
        print(f"{name:<18} {phase:<10} {time.monotonic() - began:6.1f} s")
        if phase != "Succeeded":
            raise StepError(f"{name}: {phase}\n{self.logs[name]}\n{self.kubectl('describe', 'pod', pod)[-3000:]}")
        output = json.loads(self.store.get(f"{self._folder(name)}/output_metadata.json"), parse_constant=_refuse)
        self.outputs[name] = {"parameterValues": {}, "artifacts": {}} | output

    def start(self, name: str) -> str:
        """Create the pod of a step and return its name."""
        body = self.pod(name)
        pod = str(body["metadata"]["name"])
        path = Path(f"/tmp/{pod}.json")
        path.write_text(json.dumps(body))
        self.kubectl("apply", "-f", str(path))
        path.unlink()
        return pod

    def provide(self, name: str, files: Mapping[str, Path], **values: Json) -> None:
        """Store `files`, some of which may be folders, and `values` as the outputs of a step, which does not run."""
        artifacts = {key: [{"name": key, "uri": f"{self._uri(name)}/{key}"}] for key in files}
        for key, path in files.items():
            place = f"{self._folder(name)}/{key}"
            contents = {f"{place}/{each.name}": each for each in path.iterdir()} if path.is_dir() else {place: path}
            for stored, file in contents.items():
                self.store.put(stored, file)
        self.outputs[name] = {
            "parameterValues": values,
            "artifacts": {key: {"artifacts": items} for key, items in artifacts.items()},
        }

    def pod(self, name: str) -> Json:
        """Return the pod of a step."""
        executor = self.pipeline["components"][self.steps[name]["componentRef"]["name"]]["executorLabel"]
        container = self.pipeline["deploymentSpec"]["executors"][executor]["container"]
        extra = self.platform[executor]
        executor_input = json.dumps(normalize_numbers(self._executor_input(name)))  # Kubeflow writes 3.0 as 3
        command = [part.replace("{{$}}", executor_input) for part in [*container["command"], *container["args"]]]
        main = {
            "name": "main",
            "image": container["image"],
            "command": ["python3", "/kfp-launcher/launcher.py", self._uri(name), executor_input],
            "args": command,
            "env": [
                *container["env"],
                *_from(extra, "secret"),
                *_from(extra, "configMap"),
                *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in FIELDS.items()),
            ],
            "resources": _resources(container["resources"]),
            "imagePullPolicy": extra["imagePullPolicy"],
            "securityContext": {
                **{key: int(extra["securityContext"][key]) for key in ("runAsUser", "runAsGroup")},
                "runAsNonRoot": extra["securityContext"]["runAsNonRoot"],
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [
                {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
                *({"name": volume, "mountPath": path} for volume, path in SCRATCH.items()),
            ],
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{self.run_id}-{name}", "labels": {"pipeline/runid": self.run_id}},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": self.account,
                "activeDeadlineSeconds": int(extra["activeDeadlineSeconds"]),
                "imagePullSecrets": [{"name": item["secretName"]} for item in extra.get("imagePullSecret", [])],
                "nodeSelector": extra.get("nodeSelector", {}).get("labels", {}),
                "containers": [main],
                "volumes": [
                    {"name": "kfp-launcher", "configMap": {"name": f"launcher-{self.run_id}"}},
                    *({"name": volume, "emptyDir": {}} for volume in SCRATCH),
                ],
            },
        }

    def _expanded(self) -> dict[str, Json]:
        """Return the steps by name, those in a loop once for each item, with the item's number after the name."""
        tasks, steps, loops = self.pipeline["root"]["dag"]["tasks"], dict[str, Json](), dict[str, list[str]]()
        for loop, task in tasks.items():
            if "parameterIterator" not in task:
                steps[loop] = task
                continue
            iterator, body = task["parameterIterator"], self.pipeline["components"][task["componentRef"]["name"]]
            values = {key: self._value(source) for key, source in task["inputs"]["parameters"].items()}
            for number, item in enumerate(values[iterator["items"]["inputParameter"]]):
                values[iterator["itemInput"]] = item
                for name, step in body["dag"]["tasks"].items():
                    inputs = {
                        key: {"runtimeValue": {"constant": values[source["componentInputParameter"]]}}
                        for key, source in step["inputs"]["parameters"].items()
                    }
                    before = {"dependentTasks": task.get("dependentTasks", [])}
                    steps[f"{name}-{number}"] = step | {"inputs": {"parameters": inputs}} | before
                    loops.setdefault(loop, []).append(f"{name}-{number}")
        for step in steps.values():
            before = step.get("dependentTasks", [])
            step["dependentTasks"] = [name for task in before for name in loops.get(task, [task])]
        return steps

    def _folder(self, name: str) -> str:
        return f"artifacts/{self.run_id}/{name}"

    def _uri(self, name: str) -> str:
        return f"minio://{self.store.uri.removeprefix('s3://')}/{self._folder(name)}"

    def _executor_input(self, name: str) -> Json:
        """Return the input of KFP's executor: values and addresses of the inputs, addresses of the outputs."""
        step = self.steps[name]
        component = self.pipeline["components"][step["componentRef"]["name"]]
        inputs, outputs = step.get("inputs", {}), component.get("outputDefinitions", {})
        return {
            "inputs": {
                "parameterValues": {key: self._value(source) for key, source in inputs.get("parameters", {}).items()},
                "artifacts": {key: self._artifact(source) for key, source in inputs.get("artifacts", {}).items()},
            },
            "outputs": {
                "parameters": {key: {"outputFile": f"{OUTPUTS}/{key}/data"} for key in outputs.get("parameters", {})},
                "artifacts": {
                    key: {
                        "artifacts": [
                            {
                                "name": key,
                                "uri": f"{self._uri(name)}/{key}",
                                "type": item["artifactType"],
                                "metadata": {},
                            }
                        ]
                    }
                    for key, item in outputs.get("artifacts", {}).items()
                },
                "outputFile": f"{OUTPUTS}/output_metadata.json",
            },
        }

    def _value(self, source: Json) -> Any:
        if "componentInputParameter" in source:
            return self.parameters[source["componentInputParameter"]]
        if "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            return self.outputs[output["producerTask"]]["parameterValues"][output["outputParameterKey"]]
        return source["runtimeValue"]["constant"]

    def _artifact(self, source: Json) -> Json:
        output = source["taskOutputArtifact"]
        artifact: Json = self.outputs[output["producerTask"]]["artifacts"][output["outputArtifactKey"]]
        return artifact

    def _ended(self, pod: str) -> str:
        deadline = time.monotonic() + POD_SECONDS
        while time.monotonic() < deadline:
            phase = self.kubectl("get", "pod", pod, "--output=jsonpath={.status.phase}")
            if phase in {"Succeeded", "Failed"}:
                return phase
            time.sleep(1)
        return phase


def _refuse(constant: str) -> None:
    """Raise ValueError, because Kubeflow cannot read NaN or Infinity."""
    raise ValueError(f"{constant} in the outputs of a step")


def _from(extra: Json, kind: str) -> list[Json]:
    """Return the variables that come from a Secret or a ConfigMap."""
    return [
        {
            "name": item["envVar"],
            "valueFrom": {
                f"{kind}KeyRef": {
                    "name": source[f"{kind}Name"],
                    "key": item[f"{kind}Key"],
                    "optional": source["optional"],
                }
            },
        }
        for source in extra[f"{kind}AsEnv"]
        for item in source["keyToEnv"]
    ]


def _resources(resources: Json) -> Json:
    limits = {"cpu": resources["resourceCpuLimit"], "memory": resources["resourceMemoryLimit"]}
    if "accelerator" in resources:
        limits[resources["accelerator"]["resourceType"]] = resources["accelerator"]["resourceCount"]
    return {
        "limits": limits,
        "requests": {"cpu": resources["resourceCpuRequest"], "memory": resources["resourceMemoryRequest"]},
    }
