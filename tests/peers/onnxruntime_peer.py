#!/usr/bin/env python3
"""Times ONNX Runtime on the CPU, the strongest peer for the network.

Prints a line of JSON for each file and a last one for the peer, as essentia_peer.py does. ONNX Runtime has neither a
decoder nor a resampler, so around the network stand libsndfile (WAV, FLAC, Ogg, MP3; no M4A or WebM, mono and stereo
only), libsamplerate with the filter that Essentia uses, and log-mel in numpy: see common.py.
"""
import json
import os

import common

parser = common.arguments(__doc__)
options = parser.parse_args()
batch = options.batch or 32
graph = str(common.graph(options.model, "onnx"))
os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)

import numpy as np
import onnxruntime
import samplerate  # used by common.decode; imported here so that it counts as start-up
import soundfile  # the same

settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = options.threads
session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
startup = common.since_process_start()


def network(patches):
    return session.run(None, {"patches": patches})[0]


def analyse(samples):
    patches = common.patches(samples)
    parts = [network(np.ascontiguousarray(patches[at : at + batch])) for at in range(0, len(patches), batch)]
    return np.concatenate(parts) if parts else np.empty((0, 200))


tracks = common.analyse_files(options.files, common.decode, analyse)
peak = common.peak_rss_mb()
patches = common.real_patches(tracks, batch)
line = {
    "peer": "onnxruntime",
    "version": onnxruntime.__version__,
    "threads": options.threads,
    "startup_ms": round(startup * 1000, 1),
    **common.rates(common.times(lambda: network(patches)), batch),
    "batch": batch,
    "peak_rss_mb": peak,
}
print(json.dumps(line))
