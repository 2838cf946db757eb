"""Validates every Kubernetes manifest, committed or rendered by `hop2rag watch`, against published schemas.

`make manifests` runs it. Core kinds: the package kubernetes-validate. Monitoring kinds: the npm package
@kubernetes-models/prometheus-operator; without npm they are not validated, and the output says so. Each of the two is
first shown something wrong, which it must reject. No cluster is asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kubernetes_validate
import yaml

from workload.watch.render import Surroundings, rendered
from workload.watch.subject import subject

ROOT = Path(__file__).parents[1]
PACKAGE = "@kubernetes-models/prometheus-operator@6.0.0"
VERSIONS = ("1.29", kubernetes_validate.latest_version())
SCRIPT = """
import * as v1 from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import * as v1alpha1 from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1alpha1";
const chunks = []; for await (const chunk of process.stdin) chunks.push(chunk);
const answers = JSON.parse(Buffer.concat(chunks)).map(one => {
  try { new {v1, v1alpha1}[one.apiVersion.split("/")[1]][one.kind](one).validate(); return ""; }
  catch (error) { return String(error); }
});
console.log(JSON.stringify(answers));
"""
FAULTY = [
    {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "a"}, "spec": {}},
    {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "ScrapeConfig",
        "metadata": {"name": "a"},
        "spec": {"scrapeInterval": "soon"},
    },
]


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Return every object with the file that it comes from."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.glob("*/kubernetes/*.yaml"))}
    watched = subject("http://vllm.llm.svc:8000,https://gateway/llm", "agent:9465", "gpu:9400")
    files = rendered(watched, "kubernetes", Surroundings(place="."))
    texts |= {f"watch/{name}": text for name, text in files.items() if name.endswith(".yaml")}
    return [
        (name, one)
        for name, text in texts.items()
        if not name.endswith("kustomization.yaml")
        for one in yaml.load_all(text, Loader=yaml.CSafeLoader)
    ]


def core_faults(one: dict[str, Any]) -> str:
    """Return what is wrong with an object of Kubernetes' own kinds."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
    return ""


def monitoring_faults(them: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with each object of the operator's kinds; empty for none."""
    with TemporaryDirectory() as folder:
        subprocess.run(["npm", "install", "--silent", "--no-save", "--prefix", folder, PACKAGE], check=True)
        node = ["node", "--input-type=module", "-e", SCRIPT]
        done = subprocess.run(node, cwd=folder, input=json.dumps(them), capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def main() -> None:
    """Validate, print a summary, and fail with every fault."""
    them = objects()
    core = [(name, one) for name, one in them if "monitoring.coreos.com" not in one["apiVersion"]]
    monitoring = [(name, one) for name, one in them if "monitoring.coreos.com" in one["apiVersion"]]
    if not core_faults({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "bogus": 1}):
        raise SystemExit("kubernetes-validate accepts what is wrong.")
    faults = [f"{name}: {one['kind']}: {said}" for name, one in core if (said := core_faults(one))]
    print(f"{len(core)} objects of core kinds, Kubernetes {' and '.join(VERSIONS)}")
    if shutil.which("npm"):
        *answers, first, second = monitoring_faults([*(one for _, one in monitoring), *FAULTY])
        if not first or not second:
            raise SystemExit(f"{PACKAGE} accepts what is wrong.")
        faults += [
            f"{name}: {one['kind']}: {said}" for (name, one), said in zip(monitoring, answers, strict=True) if said
        ]
        print(f"{len(monitoring)} objects of monitoring kinds, {PACKAGE}")
    else:
        print(f"{len(monitoring)} objects of monitoring kinds were not validated: there is no npm")
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
