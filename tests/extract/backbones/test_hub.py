"""What can go wrong with a model on the hub: each has its own message, and none takes other backbones with it."""

import io
import json
import os
import socket
import subprocess
import sys

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save

from bb.extract.backbones import hub
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.registry import load
from bb.extract.embedding.weights import digest
from bb.store.errors import BBError
from tests.helpers.hub import FakeModels
from tests.helpers.servers import free_port, serving


def vit() -> torch.nn.Module:
    torch.manual_seed(3)
    return timm.create_model("test_vit", num_classes=3)


def pickled(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


PRETRAINED = {"input_size": [3, 160, 160], "fixed_input_size": True}
CONFIG = json.dumps({"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": PRETRAINED})
RESAMPLED = CONFIG.replace(
    '"fixed_input_size": true', '"fixed_input_size": false'
)  # timm then builds it for 224 pixels
WEIGHTS = save({name: tensor.contiguous() for name, tensor in vit().state_dict().items()})
BROKEN = {name: tensor * float("nan") for name, tensor in vit().state_dict().items()}


def model(weights=WEIGHTS, config=CONFIG, file="model.safetensors"):
    return {"config.json": config.encode(), file: weights}


MODELS = FakeModels(
    files={
        "lab/birds": model(),
        "lab/pickled": model(pickled(vit().state_dict()), file="pytorch_model.bin"),
        "lab/resampled": model(config=RESAMPLED),
        "lab/truncated": model(WEIGHTS[:-100]),
        "lab/cut": model(pickled(vit().state_dict())[:-100], file="pytorch_model.bin"),
        "lab/code": model(pickled({"a": os.system}), file="pytorch_model.bin"),
        "lab/other": model(save({"a": torch.ones(1)})),
        "lab/nan": model(save(BROKEN)),
        "lab/empty": {},
        "lab/foreign": model(config='{"model_type": "dinov2", "architectures": ["Dinov2Model"]}'),
        "lab/unknown": model(config='{"architecture": "resnet19"}'),
        "lab/garbled": model(config="<html>"),
        "lab/clip": {"open_clip_config.json": b"[1]"},
        "lab/clip2": {"open_clip_config.json": b'{"model_cfg": {"embed_dim": 4, "vision_cfg": {"nonsense": 1}}}'},
    },
    faults={"lab/gated": (403, "GatedRepo"), "lab/down": (503, ""), "lab/login": (401, ""), "lab/busy": (429, "")},
)

# What is asked for, and what the message has to say of it.
WORDS = {
    "timm:hf-hub:lab/truncated": "is a damaged safetensors file",
    "timm:hf-hub:lab/cut": "is damaged",
    "timm:hf-hub:lab/code": "holds a posix.system",
    "timm:hf-hub:lab/other": "timm can't load the weights in",
    "timm:hf-hub:lab/nan": "NaN or infinite values",
    "timm:hf-hub:lab/empty": "lab/empty has no config.json, so it is not a model of timm: if it is a model of "
    "open_clip, write open_clip:hf-hub:lab/empty",
    "timm:hf-hub:lab/foreign": "config.json names no architecture, so it is not a model of this timm",
    "timm:hf-hub:lab/unknown": "names the architecture 'resnet19', so it is not a model of this timm",
    "timm:hf-hub:lab/garbled": "is not JSON",
    "timm:hf-hub:lab/gated": "repository lab/gated is gated: accept its terms on huggingface.co/lab/gated, then run",
    "timm:hf-hub:lab/down": "The hub answered 503: try again later",
    "timm:hf-hub:lab/busy": "The hub answered 429: try again later",
    "timm:hf-hub:lab/missing": "repository lab/missing is missing or private: check the name",
    "timm:hf-hub:lab/birds@v9": "repository lab/birds has no revision 'v9'",
    "hf-hub:lab/birds": "has no open_clip_config.json, so it is not a model of open_clip: if it is a model of timm, "
    "write timm:hf-hub:lab/birds",
    "hf-hub:lab/clip": "has no model_cfg, so it is not a model of open_clip",
    "hf-hub:lab/clip2": "open_clip can't load its weights (TypeError",
    "hf-hub:lab/gated": "is gated",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What came of each name: the digest of its weights and whether positions were interpolated, or the message."""
    names = [*(f"timm:hf-hub:lab/{name}" for name in ("birds", "pickled", "resampled")), *WORDS]
    with serving(MODELS.handle) as url, pytest.MonkeyPatch.context() as patched:
        for variable in [variable for variable in os.environ if variable.startswith("HF_")]:
            patched.delenv(variable)
        patched.setattr(constants, "ENDPOINT", url)
        patched.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        patched.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        patched.setattr(constants, "HF_TOKEN_PATH", os.devnull)
        patched.setattr(constants, "HF_HUB_DISABLE_XET", True)
        return {name: what_comes_of(name) for name in names}


def what_comes_of(name: str) -> str:
    try:
        backbone = load(name)
        return f"{digest(backbone.vision_state())} {backbone.architecture.get('resampled', False)}"
    except BBError as error:
        return str(error).replace("\n", " ")


def run(home, endpoint, *command):
    settings = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "XDG_CACHE_HOME": str(home)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=home)


def test_models_that_are_whole_are_loaded(said):
    network = vit()
    network.reset_classifier(0)
    for name in ("lab/birds", "lab/pickled"):
        assert said[f"timm:hf-hub:{name}"] == f"{digest(network.state_dict())} False"


def test_positions_that_timm_interpolates_stand_in_the_architecture(said):
    weights, resampled = said["timm:hf-hub:lab/resampled"].split()
    assert resampled == "True" and weights != said["timm:hf-hub:lab/birds"].split()[0]


@pytest.mark.parametrize("name", WORDS)
def test_each_fault_has_its_message(name, said):
    assert WORDS[name] in said[name]
    assert f"hf-hub:{name.rpartition(':')[2]}" in said[name]
    for option in (
        "weights_only",
        "pretrained=",
        "cache_dir",
        "force_download",
        "local_files_only",
        "trust_remote_code",
    ):
        assert option not in said[name].replace("torch.load(PATH, weights_only=False)", "")


def test_a_damaged_download_says_how_to_get_another(said):
    assert "delete that file first" in said["timm:hf-hub:lab/truncated"]


@pytest.mark.e2e
def test_without_a_connection_the_remedy_comes_at_once(tmp_path):
    """The client's retries are not waited for: it is asked once."""
    code = """
        import huggingface_hub.utils._http as http
        import time
        http.time.sleep = lambda seconds: print("waited", seconds)
        from bb.extract.backbones.registry import load
        from bb.store.errors import BBError
        for name in ("timm:resnet18", "timm:hf-hub:lab/birds", "ViT-B-16/openai", "hf-hub:lab/birds"):
            try:
                load(name)
            except BBError as error:
                print(error)
        """
    done = run(tmp_path, f"http://127.0.0.1:{free_port()}", "-c", "\n".join(line[8:] for line in code.splitlines()))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and not any(line.startswith("waited") for line in lines)
    assert all("Connect to the internet, set HTTPS_PROXY, copy a filled HF_HOME here" in line for line in lines)


def test_weights_that_are_elsewhere_wait_for_no_silent_server(monkeypatch, tmp_path):
    """Whatever answer is one, a redirect to another server too: what it says to the download is what counts."""

    def answer(handler):
        handler.send_response(302 if handler.path.startswith("/moved") else 404)
        handler.send_header("Location", f"{handler.path.removeprefix('/moved/')}/x.pth")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    name, config = BackboneName.parse("timm:resnet18.tv_in1k"), {}
    monkeypatch.setattr(hub, "_pretrained_config", lambda name: config)
    monkeypatch.setattr(hub, "cache_folder", lambda name=None: tmp_path)
    with serving(answer) as other, serving(answer) as url:
        for config["url"] in (f"{url}/x.pth", f"{url}/moved/{other}"):
            assert hub.fetch(name) is None
    config["url"] = f"http://127.0.0.1:{free_port()}/x.pth"
    with pytest.raises(
        BBError, match=r"resnet18.tv_in1k could not be downloaded\. Connect to the internet, set HTTPS_PROXY"
    ):
        hub.fetch(name)


@pytest.mark.e2e
def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch, tmp_path):
    code = """
        from bb.extract.backbones import hub
        from bb.extract.backbones.registry import load
        from bb.store.errors import BBError
        assert hub._TIMEOUT <= 5
        hub._TIMEOUT = 0.2
        for name in ("timm:hf-hub:lab/birds", "hf-hub:lab/birds"):
            try:
                load(name)
            except BBError as error:
                print(error)
        """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = run(tmp_path, url, "-c", "\n".join(line[8:] for line in code.splitlines()))
        monkeypatch.setattr(hub, "_pretrained_config", lambda name: {"url": f"{url}/x.pth"})
        monkeypatch.setattr(hub, "cache_folder", lambda name=None: tmp_path)
        monkeypatch.setattr(hub, "_TIMEOUT", 0.2)
        with pytest.raises(BBError, match=r"could not be downloaded\. Connect to the internet, set HTTPS_PROXY"):
            hub.fetch(BackboneName.parse("timm:resnet18.tv_in1k"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("Connect to the internet, set HTTPS_PROXY" in line for line in lines), lines


@pytest.mark.e2e
def test_one_backbone_that_fails_does_not_stop_the_others(tmp_path):
    from PIL import Image

    (tmp_path / "im").mkdir()
    Image.new("RGB", (32, 32), "green").save(tmp_path / "im/a.png")
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pt")
    names = ("timm:hf-hub:lab/gated", "timm:test_resnet/untrained", "timm:test_vit@other.pt")
    ckpts = [word for name in names for word in ("--ckpt", name)]
    with serving(MODELS.handle) as url:
        done = run(tmp_path, url, "-m", "bb", "extract", *ckpts, "--data", "p=im", "--device", "cpu", "--json")
    assert done.returncode == 1, done.stderr
    gated, good, other = json.loads(done.stdout)
    assert (good["backbone"], good["computed"]) == ("timm:test_resnet/untrained", 1)
    assert "error" not in good
    assert "is gated" in gated["error"] and "does not fit the architecture" in other["error"]
    assert "timm:hf-hub:lab/gated is left out: " in done.stderr
    alone = run(tmp_path, "http://127.0.0.1:9", "-m", "bb", "extract", *ckpts[4:], "--data", "p=im", "--device", "cpu")
    assert alone.returncode == 1 and "Traceback" not in alone.stderr
