"""Artefacts of strangers: what is refused before a runtime opens them."""

import pytest

from benchmarks.reliability.model_attacks import tree
from benchmarks.reliability.saved_model_attacks import served_graph
from export.evaluation.runners import load
from export.evaluation.saved_model_operators import refused_operators
from export.flatbuffer.metadata_schema import pack_metadata, unpack_table
from export.flatbuffer.objects import check_tables


def test_tables_that_lead_to_one_table_again_and_again():
    with pytest.raises(ValueError, match="more tables than bytes"):
        unpack_table(tree((3, 3, 6), 1000, b"M001"), "ModelMetadata")
    with pytest.raises(ValueError, match="more tables than bytes"):
        check_tables(tree((2, 0), 3000, b"TFL3"))
    with pytest.raises(ValueError, match="not TFL3"):
        check_tables(tree((2, 0), 3, b"M001"))
    check_tables(tree((2, 0), 3, b"TFL3"))
    files = [{"name": f"{n}"} for n in range(100)]
    whole = pack_metadata({"name": "m", "associated_files": files})
    assert unpack_table(whole, "ModelMetadata")["associated_files"] == files


@pytest.fixture
def graph():
    pytest.importorskip("tensorflow")
    from tensorflow.core.protobuf import meta_graph_pb2

    made = meta_graph_pb2.MetaGraphDef()
    made.signature_def["serving_default"].outputs["output"].name = "end:0"
    made.graph_def.node.add(name="end", op="Identity", input=["middle:1", "^control"])
    made.graph_def.node.add(name="middle", op="TensorSliceDataset")
    made.graph_def.node.add(name="control", op="NoOp")
    # What saves a model is in each; nobody runs it.
    made.graph_def.node.add(name="save", op="SaveV2")
    assert refused_operators(made) == []
    return made


@pytest.mark.parametrize(
    "op",
    [
        *("WriteFile", "ReadFile", "SaveV2", "MergeV2Checkpoints", "EagerPyFunc"),
        *("TFRecordDatasetV2", "SaveDatasetV2", "DatasetToTFRecord", "RpcClient"),
        *("CreateSummaryFileWriter", "DebugIdentityV3", "ImmutableConst", "Send"),
        *(
            "DatasetFromGraph",
            "ExperimentalMatchingFilesDataset",
            "FileSystemSetConfig",
        ),
    ],
)
def test_operators_that_do_more_than_compute(op, graph):
    graph.graph_def.node[1].op = op
    assert refused_operators(graph) == [op]


def test_they_are_found_in_control_and_functions_and_on_opening(graph):
    body = graph.graph_def.library.function.add()
    body.signature.name = "inner"
    body.node_def.add(name="x", op="WriteFile")
    graph.graph_def.node[2].op = "If"
    graph.graph_def.node[2].attr["then_branch"].func.name = "inner"
    assert refused_operators(graph) == ["WriteFile"]
    graph.graph_def.node[2].attr["then_branch"].func.name = "other"
    assert refused_operators(graph) == []
    graph.collection_def["saved_model_main_op"].node_list.value.append("save")
    assert refused_operators(graph) == ["SaveV2"]


def test_functions_that_tensorflow_exchanges(graph):
    body = graph.graph_def.library.function.add()
    body.signature.name = "other"
    body.node_def.add(name="x", op="WriteFile")
    assert refused_operators(graph) == []  # called by nobody
    body.attr["api_implements"].s = b"a"
    assert refused_operators(graph) == ["WriteFile"]


def test_long_messages(tmp_path):
    """TensorFlow took minutes to look for nodes in one of 200 kB."""
    pytest.importorskip("tensorflow")
    from tensorflow.core.protobuf import saved_model_pb2

    served_graph(lambda tf, values, outside: values)(tmp_path, tmp_path)
    path = tmp_path / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    functions = model.meta_graphs[0].graph_def.library.function
    (outer,) = (f for f in functions if "signature_wrapper" in f.signature.name)
    functions.remove(outer)
    functions[0].attr["_note"].s = b"a" * 200_000
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="must be a SavedModel") as raised:
        load(tmp_path / "1")
    assert len(str(raised.value)) < 800


def test_messages_of_a_known_source(graph):
    node = graph.graph_def.node[2]
    node.op = "DecodeProtoV2"
    node.attr["descriptor_source"].s = b"bytes://abc"
    assert refused_operators(graph) == []
    node.attr["descriptor_source"].s = b"/etc/passwd"
    assert refused_operators(graph) == ["DecodeProtoV2"]


def test_printing_into_a_file(graph):
    graph.graph_def.node[2].op = "PrintV2"
    graph.graph_def.node[2].attr["output_stream"].s = b"stderr"
    assert refused_operators(graph) == []
    graph.graph_def.node[2].attr["output_stream"].s = b"file:///tmp/x"
    assert refused_operators(graph) == ["PrintV2"]


@pytest.mark.parametrize("damage", ["scale", "nan", "outputs"])
def test_numbers_that_end_the_process_in_litert(damage, tflite_of, tmp_path):
    from export.flatbuffer.objects import pack, unpack
    from export.flatbuffer.operators import read_operators

    path, _ = tflite_of("int8")
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    if damage == "outputs":
        graph.operators[3].outputs = [-1]
    else:
        tensor = next(t for t in graph.tensors if t.quantization.scale is not None)
        tensor.quantization.scale = [-1.0 if damage == "scale" else float("nan")]
    (tmp_path / "m.tflite").write_bytes(pack(model))
    with pytest.raises(ValueError, match="a scale below 0|an output that is none"):
        read_operators(tmp_path / "m.tflite")
    assert read_operators(path)


def test_names_of_operators_do_not_become_c(tflite_of, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    from export import UnsupportedOperators, c_array
    from export.flatbuffer.objects import pack, unpack

    model = unpack(tflite_of("int8")[0].read_bytes())
    operators = model.subgraphs[0].operators
    for operator, name in zip(
        operators[:2], ("ethos-u", "x(); evil(); //"), strict=True
    ):
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = 32, 32
        code.customCode = name.encode()
        model.operatorCodes.append(code)
        operator.opcodeIndex = len(model.operatorCodes) - 1
    (tmp_path / "m.tflite").write_bytes(pack(model))
    with pytest.raises(UnsupportedOperators, match="no operator .CUSTOM:x"):
        c_array(tmp_path / "m.tflite", tmp_path / "m.h")
    assert not (tmp_path / "m.h").exists()
