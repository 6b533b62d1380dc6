import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from config.sources import SHORT_NAMES

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = json.loads((ROOT / "tests" / "assets" / "kubernetes-1.37.json").read_text())
FILES = sorted(FOLDER.rglob("*.yaml"))
OBJECTS = [
    pytest.param(document, id=f"{path.parent.name}/{path.name}:{document['kind']}")
    for path in FILES
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]
PODS = [each for each in OBJECTS if "template" in each.values[0].get("spec", {})]


def pod(document):
    return document["spec"]["template"]["spec"]


@pytest.mark.parametrize("document", OBJECTS)
def test_every_object_fits_the_schema_of_its_kind(document):
    if document["apiVersion"] == "keda.sh/v1alpha1":
        assert document["kind"] in {"ScaledObject", "TriggerAuthentication"}  # tests/integration/deploy runs its query
        return
    name = SCHEMAS["kinds"][f"{document['apiVersion']} {document['kind']}"]

    jsonschema.validate(document, SCHEMAS["$defs"][name] | {"$defs": SCHEMAS["$defs"]})


def test_the_schemas_refuse_what_they_do_not_know():
    broken = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "x"},
        "automountServiceAcountToken": False,
    }
    schema = SCHEMAS["$defs"][SCHEMAS["kinds"]["v1 ServiceAccount"]]

    with pytest.raises(jsonschema.ValidationError, match="automountServiceAcountToken"):
        jsonschema.validate(broken, schema | {"$defs": SCHEMAS["$defs"]})


def test_every_file_is_named_by_its_kustomization():
    for file in FOLDER.rglob("kustomization.yaml"):
        told = yaml.safe_load(file.read_text())
        given = {file.partition("=")[2] for each in told.get("configMapGenerator", ()) for file in each["files"]}
        named = {name for name in told["resources"] if name.endswith(".yaml")} | given

        assert named == {path.name for path in file.parent.iterdir() if path.is_file()} - {file.name}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which renders without a cluster")
def test_the_example_renders():
    done = subprocess.run(
        ["kubectl", "kustomize", FOLDER / "overlays" / "example"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", PODS)
def test_pods_are_nobody_and_write_only_to_tmp(document):
    spec = pod(document)
    (container,) = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")] == ["/tmp"]
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("document", PODS)
def test_commands_and_probes_are_ours(document):
    (container,) = pod(document)["containers"]
    commands = [container["args"]]
    commands += [
        container[name]["exec"]["command"][1:]
        for name in ("startupProbe", "livenessProbe")
        if "exec" in container.get(name, {})
    ]

    for command in commands:
        words = [word for word in command if word.isalpha()]
        shown = CliRunner().invoke(app, [*words[: 2 if words[0] in {"db", "workers"} else 1], "--help"])
        assert shown.exit_code == 0, command
        for option in (word for word in command if word.startswith("--")):
            assert option in shown.output, command


@pytest.mark.parametrize("document", PODS)
def test_settings_come_from_files(document):
    (container,) = pod(document)["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}

    assert set(given) <= {*SHORT_NAMES, "REFUNDRY_CONFIG"}
    for name in set(given) - {"REFUNDRY_CONFIG"}:
        assert re.fullmatch(r"file:/run/secrets/refundry/\w+", given[name])


def test_selectors_find_their_pods():
    def labels(document):
        return document["spec"]["template"]["metadata"]["labels"]

    for document in (each.values[0] for each in PODS):
        selector = document["spec"].get("selector")
        assert selector is None or selector["matchLabels"].items() <= labels(document).items()
