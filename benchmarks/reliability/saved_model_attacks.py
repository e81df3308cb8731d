"""SavedModels made to harm: operators that do more than compute."""

import pathlib


def served_graph(build):
    """A SavedModel of a function of images and of the folder outside."""

    def make(folder, outside):
        import tensorflow as tf

        class Module(tf.Module):
            @tf.function(
                input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.uint8, "images")]
            )
            def run(self, images):
                values = tf.reduce_mean(tf.cast(images, tf.float32), (1, 2))
                return {"output": build(tf, values, str(outside))}

        (outside / "secret").write_text("12345.0")
        module = Module()
        tf.saved_model.save(module, str(folder / "1"), {"serving_default": module.run})

    return make


def writes_file(tf, values, outside):
    """Writes a file when it is run."""
    with tf.control_dependencies([tf.io.write_file(f"{outside}/made", "x")]):
        return tf.identity(values)


def reads_file(tf, values, outside):
    """Gives the content of a file outside as its output."""
    return values + tf.strings.to_number(tf.io.read_file(f"{outside}/secret"))


def prints_to_file(tf, values, outside):
    """Prints into a file."""
    with tf.control_dependencies(
        [tf.print("x", output_stream=f"file://{outside}/made")]
    ):
        return tf.identity(values)


def saves_weights(tf, values, outside):
    """Writes tensors of a checkpoint."""
    save = tf.raw_ops.SaveV2(
        prefix=f"{outside}/made",
        tensor_names=["x"],
        shape_and_slices=[""],
        tensors=[values],
    )
    with tf.control_dependencies([save]):
        return tf.identity(values)


def writes_in_branch(tf, values, outside):
    """Writes a file in a function that a branch calls."""

    def branch():
        return writes_file(tf, values, outside)

    return tf.cond(tf.size(values) > 0, branch, lambda: values)


def runs_python(tf, values, outside):
    """Calls a function of Python by its number."""
    return tf.ensure_shape(
        tf.numpy_function(lambda x: x, [values], tf.float32), (None, 3)
    )


def takes_memory(tf, values, outside):
    """Computes 8 GB of zeros."""
    many = tf.zeros((tf.shape(values)[0], 2 << 30)) + values[:, :1]
    return tf.reduce_sum(many, 1, keepdims=True) + values


def with_init(folder: pathlib.Path, outside: pathlib.Path) -> None:
    """A SavedModel that writes a file when it is opened."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    served_graph(lambda tf, values, outside: values)(folder, outside)
    path = folder / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.io.write_file(f"{outside}/made", "x")
    meta = model.meta_graphs[0]
    nodes = graph.as_graph_def().node
    for node in nodes:
        node.name = f"evil/{node.name}"
        for at, name in enumerate(node.input):
            node.input[at] = f"evil/{name}"
    meta.graph_def.node.extend(nodes)
    last = nodes[-1].name
    meta.signature_def["__saved_model_init_op"].outputs[
        "__saved_model_init_op"
    ].name = f"{last}:0"
    path.write_bytes(model.SerializeToString())


SAVED = (writes_file, reads_file, prints_to_file, saves_weights, writes_in_branch)
SAVED += (runs_python,)
