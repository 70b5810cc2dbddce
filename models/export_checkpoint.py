#!/usr/bin/env python3
"""Exports the two MusicNN checkpoints of the Python package musicnn 0.1.0 to safetensors, names and layout unchanged.

Usage: export_checkpoint.py PACKAGE_FOLDER OUTPUT_FOLDER
Needs: pip install tensorflow-cpu safetensors
"""
import pathlib
import sys

import tensorflow
from safetensors.numpy import save_file

NAMES = {"MSD_musicnn": "msd-musicnn", "MTT_musicnn": "mtt-musicnn"}


def is_weight(name):
    """Leaves out the optimiser's slots and counters."""
    return "Adam" not in name and name not in ("beta1_power", "beta2_power")


def main(package, output):
    output.mkdir(parents=True, exist_ok=True)
    for folder, model in NAMES.items():
        reader = tensorflow.train.load_checkpoint(f"{package / folder}/")
        names = sorted(filter(is_weight, reader.get_variable_to_shape_map()))
        tensors = {name: reader.get_tensor(name) for name in names}
        save_file(tensors, output / f"{model}.tf-layout.safetensors")
        print(f"{model}: {len(tensors)} tensors, {sum(t.size for t in tensors.values())} numbers")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
