#!/usr/bin/env python3
"""Times Essentia + TensorFlow, the Python worker's analyser: decode, resample, MusicNN, mean over the patches.

Prints a line of JSON for each file and a last one for the peer. `startup_ms` counts from the start of the process until
the first file can be analysed; `patches_per_second` is the median of the network alone, in batches of real patches;
`peak_rss_mb` is that of start-up and files, taken before the network alone is timed.
"""
import json
import os
from importlib.metadata import version

import common

parser = common.arguments(__doc__)
options = parser.parse_args()
batch = options.batch or 64  # Essentia's default
graph = str(common.graph(options.model, "pb"))
for pool in "INTRA", "INTER":
    os.environ[f"TF_NUM_{pool}OP_THREADS"] = str(options.threads)
os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import essentia

essentia.log.infoActive = essentia.log.warningActive = False
import essentia.standard as es

INPUT, OUTPUT = "model/Placeholder", "model/dense/BiasAdd"
model = es.TensorflowPredictMusiCNN(graphFilename=graph, output=OUTPUT, batchSize=batch)
startup = common.since_process_start()

tracks = common.analyse_files(options.files, lambda file: es.MonoLoader(filename=file, sampleRate=16000)(), model)
peak = common.peak_rss_mb()

network = es.TensorflowPredict(graphFilename=graph, inputs=[INPUT], outputs=[OUTPUT])
pool = essentia.Pool()
pool.set(INPUT, common.real_patches(tracks, batch)[:, None])
line = {
    "peer": "essentia-tensorflow",
    "version": version("essentia-tensorflow"),
    "threads": options.threads,
    "startup_ms": round(startup * 1000, 1),
    **common.rates(common.times(lambda: network(pool)), batch),
    "batch": batch,
    "peak_rss_mb": peak,
}
print(json.dumps(line))
