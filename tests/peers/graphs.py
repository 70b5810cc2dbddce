#!/usr/bin/env python3
"""Writes MusicNN, with the weights of one of our models, as the graph a peer loads.

Usage: graphs.py MODEL.safetensors OUT.pb|OUT.onnx

The layers are those of the original (`musicnn/models.py` in the Python package musicnn 0.1.0), in the same order, up to
the embedding: patches (n, 187, 96) in, (n, 200) out.
"""
import sys

from safetensors.numpy import load_file

EPSILON = 1e-3  # of every batch norm
TEMPORAL = [("conv2d_2", 128, 3), ("conv2d_3", 64, 4), ("conv2d_4", 32, 5)]  # kernel, taps, batch norm
TIMBRAL = [("conv2d", 38, 1), ("conv2d_1", 67, 2)]  # kernel, bands, batch norm
MID = [("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8)]  # kernel, batch norm


def norm_tensors(weights, index):
    name = "batch_normalization" + (f"_{index}" if index else "")
    return [weights[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")]


def tensorflow_graph(weights):
    """A frozen GraphDef with the node names that Essentia's users know. Attributes with default values are left out, as
    the TensorFlow 2.5 in Essentia refuses those that came later."""
    import tensorflow as tf

    def norm(x, index):
        gamma, beta, mean, variance = norm_tensors(weights, index)
        if len(x.shape) == 2:
            return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)
        return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, mean, variance, EPSILON, is_training=False)[0]

    def conv(x, name, index, padding):
        kernel = weights[f"{name}/kernel"]
        if kernel.ndim == 3:  # the mid end: [out, channel, time] to [time, channel, 1, out]
            kernel = kernel.transpose(2, 1, 0)[:, :, None]
        else:
            kernel = kernel.transpose(2, 3, 1, 0)
        y = tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, padding), weights[f"{name}/bias"])
        return norm(tf.nn.relu(y), index)

    def pad_time(x):
        return tf.pad(x, [[0, 0], [3, 3], [0, 0], [0, 0]])

    def pool_bands(x):
        return tf.squeeze(tf.nn.max_pool2d(x, [1, x.shape[2]], [1, x.shape[2]], "VALID"), [2])

    with tf.Graph().as_default() as graph, tf.name_scope("model"):
        patches = tf.compat.v1.placeholder(tf.float32, [None, 187, 96], name="Placeholder")
        x = norm(tf.expand_dims(patches, 3), 0)
        padded = pad_time(x)
        front = [pool_bands(conv(padded, name, index, "VALID")) for name, _, index in TIMBRAL]
        front += [pool_bands(conv(x, name, index, "SAME")) for name, _, index in TEMPORAL]
        features = [tf.expand_dims(tf.concat(front, 2), 3)]  # each (n, 187, channels, 1)
        for name, index in MID:
            y = tf.transpose(conv(pad_time(features[-1]), name, index, "VALID"), [0, 1, 3, 2])
            features.append(y if index == 6 else y + features[-1])
        x = tf.concat(features, 2)
        x = tf.concat([tf.reduce_max(x, 1), tf.reduce_mean(x, 1)], 2)
        x = norm(tf.reshape(x, [-1, 1506]), 9)
        with tf.name_scope("dense"):
            tf.nn.bias_add(tf.matmul(x, weights["dense/kernel"]), weights["dense/bias"], name="BiasAdd")
        meta = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True)
    return meta.graph_def.SerializeToString()


def onnx_graph(weights):
    """An ONNX model; time is the height and frequency the width of a convolution."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants = [], {}

    def constant(name, array):
        constants[name] = numpy_helper.from_array(array, name)
        return name

    def op(kind, *inputs, **attributes):
        output = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def axes(*values):
        import numpy

        return constant(f"axes_{values}", numpy.array(values))

    def norm(x, index):
        tensors = [constant(f"norm_{index}_{i}", tensor) for i, tensor in enumerate(norm_tensors(weights, index))]
        return op("BatchNormalization", x, *tensors, epsilon=EPSILON)

    def weight(name):
        return constant(name, weights[name])

    def conv(x, name, index, pads):
        return norm(op("Relu", op("Conv", x, weight(f"{name}/kernel"), weight(f"{name}/bias"), pads=pads)), index)

    def pool_bands(x, bands):
        return op("Squeeze", op("MaxPool", x, kernel_shape=[1, bands]), axes(3))

    x = norm(op("Unsqueeze", "patches", axes(1)), 0)
    front = [pool_bands(conv(x, name, index, [3, 0, 3, 0]), 97 - bands) for name, bands, index in TIMBRAL]
    front += [pool_bands(conv(x, name, i, [(taps - 1) // 2, 0, taps // 2, 0]), 96) for name, taps, i in TEMPORAL]
    features = [op("Concat", *front, axis=1)]  # each (n, channels, 187)
    for name, index in MID:
        y = conv(features[-1], name, index, [3, 3])
        features.append(y if index == 6 else op("Add", y, features[-1]))
    x = op("Concat", *features, axis=1)
    x = op("Concat", op("ReduceMax", x, axes=[2]), op("ReduceMean", x, axes=[2]), axis=2)
    x = norm(op("Flatten", x), 9)
    nodes.append(helper.make_node("Gemm", [x, weight("dense/kernel"), weight("dense/bias")], ["embedding"]))

    patches = helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", 187, 96])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 200])
    graph = helper.make_graph(nodes, "musicnn", [patches], [embedding], list(constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


if __name__ == "__main__":
    model, out = sys.argv[1:]
    write = onnx_graph if out.endswith(".onnx") else tensorflow_graph
    with open(out, "wb") as file:
        file.write(write(load_file(model)))
