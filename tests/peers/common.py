"""What the peers' scripts share: arguments, cached graphs, decoding, log-mel patches, timing.

Packages are imported where they are used: what a peer does not need shall not count in its start-up and memory.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
WARM_UP, REPETITIONS = 2, 7

making = 0.0


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/msd-musicnn.safetensors")
    parser.add_argument("--batch", type=int, metavar="PATCHES", help="patches the network gets at a time")
    parser.add_argument("files", nargs="+", metavar="FILE")
    return parser


def graph(model, extension):
    """The path of the model as the peer's graph, made when it is missing or older than what it is made from."""
    global making
    path, maker = WORK / f"{model.stem}.{extension}", HERE / "graphs.py"
    if not path.exists() or path.stat().st_mtime < max(model.stat().st_mtime, maker.stat().st_mtime):
        start = time.perf_counter()
        WORK.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"new-{path.name}")
        subprocess.run([sys.executable, maker, model, new], check=True)
        new.replace(path)
        making = time.perf_counter() - start
    return path


def decode(file):
    """The samples of a file, mono at 16 kHz: libsndfile, and libsamplerate with the filter that Essentia uses."""
    import samplerate
    import soundfile

    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    if samples.shape[1] > 2:
        raise ValueError("more than two channels")
    mono = samples.mean(1)
    return mono if rate == 16000 else samplerate.resample(mono, 16000 / rate, "sinc_medium")


def patches(samples):
    """Samples at 16 kHz to log-mel patches (n, 187, 96), which overlap by half."""
    import numpy as np
    from numpy.lib.stride_tricks import sliding_window_view

    def hertz(mel):
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))

    corners = hertz(np.linspace(0, 15 + np.log(8) * 27 / np.log(6.4), 98))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.linspace(0, 8000, 257)
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0) * 2 / (high - low)
    window = np.hanning(512).astype("f4")

    count = -(-len(samples) // 256) + 1
    frames = sliding_window_view(np.pad(samples, (256, 512)), 512)[::256][:count]
    mel = np.empty((count, 96), "f4")
    for at in range(0, count, 4096):
        spectrum = np.fft.rfft(frames[at : at + 4096] * window)
        power = spectrum.real**2 + spectrum.imag**2
        mel[at : at + 4096] = np.log10(1 + 10000 * (power @ triangles.T.astype("f4")))
    if count < 187:
        return np.empty((0, 187, 96), "f4")
    return sliding_window_view(mel, 187, axis=0)[::93].transpose(0, 2, 1)


def since_process_start():
    """Seconds since the kernel started this process, without those spent making a graph."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK") - making


def peak_rss_mb():
    status = pathlib.Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def analyse_files(files, decode, analyse):
    """Prints a line for each file and returns samples, two minutes in all, to time the network alone with."""
    kept, room = [], 2 * 60 * 16000
    for file in files:
        start = time.perf_counter()
        try:
            samples = decode(file)
            decoded = time.perf_counter()
            embeddings = analyse(samples)
            end = time.perf_counter()
        except Exception as error:  # whatever the peer raises
            print(json.dumps({"file": file, "error": str(error)}), flush=True)
            continue
        if len(embeddings) and room > 0:
            kept.append(samples[:room].copy())
            room -= len(kept[-1])
        elapsed = {"decode": decoded - start, "analyse": end - decoded, "total": end - start}
        line = {
            "file": file,
            "seconds": round(len(samples) / 16000, 3),
            "patches": len(embeddings),
            "elapsed_ms": {step: round(seconds * 1000, 1) for step, seconds in elapsed.items()},
            "embedding": embeddings.mean(0).tolist() if len(embeddings) else None,
        }
        print(json.dumps(line), flush=True)
    if not kept:
        sys.exit("no file had a patch")
    return kept


def real_patches(tracks, count):
    """As many patches as asked for, of the tracks in turn, repeated where they are too few."""
    import numpy as np

    found = np.concatenate([patches(samples) for samples in tracks])
    return np.ascontiguousarray(np.resize(found, (count, 187, 96)))


def times(run):
    """Seconds of `run()`, again and again."""
    seconds = []
    for _ in range(WARM_UP + REPETITIONS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def rates(seconds, batch):
    """Patches a second of a network that took these times for a batch."""
    found = [batch / each for each in seconds[WARM_UP:]]
    return {
        "patches_per_second": round(statistics.median(found), 2),
        "patches_per_second_best": round(max(found), 2),
    }
