"""The bare loop that the engine is held against: two threads, hashlib, nothing else."""

import hashlib
import os
import sys
import threading

BUFFER = 1024 * 1024


def work(paths: list[str]) -> None:
    buffer = memoryview(bytearray(BUFFER))
    while True:
        try:
            path = paths.pop()
        except IndexError:
            return
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
        digest.hexdigest()


def main() -> None:
    directory = sys.argv[1]
    names = (os.path.join(directory, name) for name in os.listdir(directory))
    paths = sorted((path for path in names if os.path.isfile(path)), key=os.path.getsize)
    threads = [threading.Thread(target=work, args=(paths,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
