#!/usr/bin/env python3
"""Exports the two MusicNN checkpoints of the Python package musicnn 0.1.0 to safetensors, names and layout unchanged.

Usage: export_checkpoint.py PACKAGE_FOLDER OUTPUT_FOLDER

PACKAGE_FOLDER is the folder `musicnn` of the unzipped wheel; models/README.md has all the commands. Prints each file's
SHA-256, which must be `source_sha256` in models/manifest.json. What TensorFlow says on standard error can be ignored.
"""
import argparse
import hashlib
import json
import pathlib

from tensorflow.compat.v1.train import NewCheckpointReader

NAMES = {"MSD_musicnn": "msd-musicnn", "MTT_musicnn": "mtt-musicnn"}
METADATA = {"source": "musicnn 0.1.0", "license": "ISC"}


def is_weight(name):
    """Leaves out the optimiser's slots and counters."""
    return "Adam" not in name and name not in ("beta1_power", "beta2_power")


def safetensors(tensors):
    """A safetensors file. The safetensors package shuffles the metadata, and the checksum changes with it."""
    header, at = {"__metadata__": METADATA}, 0
    for name, tensor in tensors.items():
        assert tensor.dtype == "<f4", f"{name} is {tensor.dtype}"
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    header = json.dumps(header, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join([len(header).to_bytes(8, "little"), header, *(tensor.tobytes() for tensor in tensors.values())])


def main(package, output):
    output.mkdir(parents=True, exist_ok=True)
    for folder, model in NAMES.items():
        # The checkpoint's files are called `.index` and `.data-…`, so TensorFlow's prefix ends with the slash.
        reader = NewCheckpointReader(f"{package / folder}/")
        names = sorted(filter(is_weight, reader.get_variable_to_shape_map()))
        tensors = {name: reader.get_tensor(name) for name in names}
        file = safetensors(tensors)
        (output / f"{model}.tf-layout.safetensors").write_bytes(file)
        numbers = sum(tensor.size for tensor in tensors.values())
        print(f"{model}: {len(tensors)} tensors, {numbers} numbers, sha256 {hashlib.sha256(file).hexdigest()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=pathlib.Path, metavar="PACKAGE_FOLDER")
    parser.add_argument("output", type=pathlib.Path, metavar="OUTPUT_FOLDER")
    main(**vars(parser.parse_args()))
