"""The same with `huggingface_hub`: `child_hub_peer.py ENDPOINT REPO CACHE`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    # Read when the library is imported. A fresh cache: the index is downloaded each time.
    os.environ["HF_ENDPOINT"] = sys.argv[1]
    os.environ["HF_HUB_CACHE"] = sys.argv[3]
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from huggingface_hub import get_safetensors_metadata

    metadata = get_safetensors_metadata(sys.argv[2], token=False)
    print(sum(len(file.tensors) for file in metadata.files_metadata.values()))


if __name__ == "__main__":
    main()
