"""PyTorch's files without PyTorch: real ones, ones of all kinds made here, and what is refused."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch_samples
import torch_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from torch_writer import Call, Name, Persistent, storage, tensor

from tfdense.errors import InputError
from tfdense.torch_files import read_state_dict

VALUES = np.arange(12, dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth.tar"


def _reads(path, content, **elements):
    """Writes an archive whose storages are `VALUES` and others; returns what is read."""
    torch_writer.archive(path, content, {"0": VALUES, **elements})
    return read_state_dict(path)


# Real files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["archive", "sequence"])
def test_files_of_pytorch_are_read(name):
    expected = torch_samples.parameters()
    read = read_state_dict(torch_samples.FOLDER / f"{name}.pth")
    assert read.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(read[key], value, err_msg=key, strict=True)
    assert np.shares_memory(read["layer.weight"], read["layer.transposed"])
    assert not read["layer.weight"].flags.writeable


def test_types_that_pytorch_keeps_as_bytes_are_read():
    read = read_state_dict(torch_samples.FOLDER / "unsigned.pth")
    for name in ("uint16", "uint32", "uint64"):
        np.testing.assert_array_equal(read[name], np.arange(5, dtype=name), strict=True)


def test_no_module_is_imported_for_them():
    assert not {"torch", "trainer"} & {*sys.modules}


# Files of all kinds -------------------------------------------------------------------------


@st.composite
def _views(draw):
    """An array, its elements as stored, and the call that makes the one from the other."""
    code = draw(st.sampled_from(sorted(torch_writer.STORAGES)))
    shape = draw(st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    strides = [draw(st.integers(0, 7)) for _ in shape]
    offset = draw(st.integers(0, 5))
    last = offset + sum(max(n - 1, 0) * s for n, s in zip(shape, strides, strict=True))
    stored = draw(st_numpy.arrays(code, last + 1 + draw(st.integers(0, 2))))
    view = np.lib.stride_tricks.as_strided(
        stored[offset:], shape, [stride * stored.itemsize for stride in strides]
    )
    return view, stored, lambda key: tensor(storage(stored, key), shape, strides, offset)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(views=st.lists(_views(), min_size=1, max_size=3), data=st.data())
def test_any_view_in_any_format(views, data, tmp_path):
    content = {f"layer.{k}": call(str(k)) for k, (_, _, call) in enumerate(views)}
    elements = {str(k): stored for k, (_, stored, _) in enumerate(views)}
    protocol = data.draw(st.integers(0, 5))
    path = tmp_path / "checkpoint.pth"
    if data.draw(st.booleans()):
        torch_writer.sequence(path, content, elements, protocol=protocol)
    else:
        order = data.draw(st.sampled_from(["<", ">", None]))
        folder = data.draw(st.sampled_from(["archive/", "a name/nested/", ""]))
        torch_writer.archive(path, content, elements, protocol=protocol, order=order, folder=folder)
    read = read_state_dict(path)
    assert [*read] == [*content]
    for value, (view, _, _) in zip(read.values(), views, strict=True):
        np.testing.assert_array_equal(value, view, strict=True)


@pytest.mark.parametrize("order", "<>")
def test_bfloat16_becomes_float32(path, order):
    values = np.array([1.0, -2.5, 3e38, np.inf, -0.0, 2.0**-133], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = {"a": tensor(storage(halves, "0", "BFloat16Storage"), (6,), (1,))}
    torch_writer.archive(path, content, {"0": halves}, order=order)
    exact = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(read_state_dict(path)["a"], exact, strict=True)


@pytest.mark.parametrize("order", "<>")
def test_elements_kept_as_bytes_are_of_the_type_that_the_tensor_says(path, order):
    values = np.array([1, 500, 65535], np.uint16)
    stored = storage(values.view(np.uint8), "0", "UntypedStorage")
    arguments = (stored, 1, (2,), (1,), False, {}, Name("torch.uint16"))
    content = {"a": Call("torch._utils._rebuild_tensor_v3", arguments)}
    torch_writer.archive(path, content, {"0": values}, order=order)
    np.testing.assert_array_equal(read_state_dict(path)["a"], values[1:], strict=True)


def test_parameters_and_tensors_of_every_version(path):
    reference = storage(VALUES, "0", "cuda.FloatStorage")
    plain = Call("torch._utils._rebuild_tensor", (reference, 2, (3,), (1,)))
    hooks = Call("collections.OrderedDict")
    parameter = Call("torch._utils._rebuild_parameter", (plain, True, hooks))
    with_state = "torch._utils._rebuild_parameter_with_state"
    of_type = (Name(plain.name), Name("trainer.Tensor"), plain.arguments, {"note": 1})
    content = {
        "plain": plain,
        "parameter": parameter,
        "with state": Call(with_state, (plain, True, hooks, {"rate": 1})),
        "of type": Call("torch._tensor._rebuild_from_type_v2", of_type),
        "both": Call(with_state, (parameter, True, hooks, {})),
    }
    for value in _reads(path, content).values():
        np.testing.assert_array_equal(value, VALUES[2:5])


def test_views_of_storages_as_old_versions_wrote_them(path):
    reference = storage(VALUES, "0", view=[("1", 4, 5)])
    content = {"a": tensor(reference, (2, 2), (2, 1), offset=1)}
    torch_writer.sequence(path, content, {"0": VALUES})
    np.testing.assert_array_equal(read_state_dict(path)["a"], [[5, 6], [7, 8]])
    content = {"a": tensor(reference, (5,), (1,), offset=1)}
    torch_writer.sequence(path, content, {"0": VALUES})
    with pytest.raises(InputError, match="element 5 is not among its storage's 5"):
        read_state_dict(path)


def test_a_dict_that_python_2_wrote(path):
    pairs = [["module.a", tensor(storage(VALUES, "0"), (12,), (1,))]]
    read = _reads(path, {"state_dict": Call("collections.OrderedDict", (pairs,))})
    np.testing.assert_array_equal(read["a"], VALUES)


_A = tensor(storage(VALUES, "0"), (3, 4), (4, 1))
_TRAINING = {
    "settings": Call("admin.Settings", (), {"device": Call("torch.device", ("cuda",))}),
    "stats": Call("collections.OrderedDict", ([["loss", Call("trainer.Statistic")]],)),
    "best": Call(
        "numpy.core.multiarray.scalar",
        (Call("numpy.dtype", ("f8", 0, 1)), Call("_codecs.encode", ("\0" * 8, "latin1"))),
    ),
    "model": Call("networks.PDCNet", (), {"_modules": {}}),
    "optimizer": {"state": {0: {"momentum": _A}}},
    "epoch": 3,
}


@pytest.mark.parametrize(
    "place",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, **_TRAINING},
        lambda tensors: {**_TRAINING, "net": tensors},
        lambda tensors: {**_TRAINING, "model": tensors},
        lambda tensors: {**_TRAINING, "model_state_dict": tensors},
        lambda tensors: {**_TRAINING, "model": {"state_dict": tensors, "name": "pdcnet"}},
        lambda tensors: {"model": {"name": "pdcnet"}, "net": tensors},
        lambda tensors: {"state_dict": tensors, "temperature": _A},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_parameters_are_found_wherever_they_are(path, place, prefix):
    read = _reads(path, place({f"{prefix}level.module.weight": _A}))
    assert [*read] == ["level.module.weight"]
    np.testing.assert_array_equal(read["level.module.weight"], VALUES.reshape(3, 4))


def test_only_parameters_are_read(path):
    beside = tensor(storage(VALUES, "1"), (12,), (1,))
    torch_writer.archive(path, {"state_dict": {"a": _A}, "optimizer": beside}, {"0": VALUES})
    assert [*read_state_dict(path)] == ["a"]
    torch_writer.archive(path, {"state_dict": {"a": _A, "b": beside}}, {"0": VALUES})
    with pytest.raises(InputError, match=r"b cannot be read \(it lacks the record data/1"):
        read_state_dict(path)


# What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([_A], "no tensors in it or under state_dict, .* it is of type list"),
        ({}, "it is of type dict. In PyTorch: torch.save"),
        ({"a": _A, "epoch": 3}, r"but epoch \(int\) are not"),
        ({"weights": {"a": _A}, "epoch": 3}, r"of type dict and has weights \(dict\), epoch"),
        (
            {"model": Call("models.pdcnet.PDCNetWithAVeryLongNameThatIsNotCutOff")},
            r"has model \(models\.pdcnet\.PDCNetWithAVeryLongNameThatIsNotCutOff\)\. In PyTorch: "
            r"torch\.save\(\{'state_dict': model\.state_dict\(\)\}, path\)\.$",
        ),
        (Persistent(("module", Name("networks.PDCNet"), "/a.py", "")), "type networks.PDCNet"),
        ({"a": _A, "b": Call("torch._utils._rebuild_qtensor")}, r"b \(torch\._utils\._rebuild_q"),
    ],
)
def test_other_contents_are_named_with_a_way_out(path, content, message):
    with pytest.raises(InputError, match=message) as error:
        _reads(path, content)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(storage(VALUES, "0"), (13,), (1,)), "element 12 is not among its storage's 12"),
        (tensor(storage(VALUES, "0"), (3, 4), (5, 1)), "element 13 is not"),
        (tensor(storage(VALUES, "0"), (2,), (1,), 11), "element 12 is not"),
        (tensor(storage(VALUES, "0"), (), (), 12), "element 12 is not"),
        (tensor(storage(VALUES, "0"), (2,), (-1,), 3), "whole numbers"),
        (tensor(storage(VALUES, "0"), (2,), (1,), -1), "whole numbers"),
        (tensor(storage(VALUES, "0"), (-2,), (1,)), "whole numbers"),
        (tensor(storage(VALUES, "0"), (2.0,), (1,)), "whole numbers"),
        (tensor(storage(VALUES, "0"), (2,), (1, 1)), "1 sizes but 2 strides"),
        (tensor(storage(VALUES, "0"), (2**40, 2**40), (0, 0)), "."),
        (tensor(storage(VALUES, "0"), (2**80,), (0,)), "."),
        (tensor(storage(VALUES, "0"), (0, 2**80), (0, 0)), "."),
        (tensor(storage(VALUES, "0"), (1,) * 100, (1,) * 100), "."),
        (tensor(storage(VALUES, "0", count=13), (2,), (1,)), "holds 12 of 13 elements"),
        (tensor(storage(VALUES, "0", count=-1), (2,), (1,)), "whole numbers"),
        (tensor(storage(VALUES, "0", count=2**70), (2**70,), (0,)), "holds 12 of"),
        (tensor(storage(VALUES, "0", "DoubleStorage"), (7,), (1,)), "holds 6 of 12 elements"),
        (tensor(storage(VALUES, "0", "QUInt4Storage"), (7,), (1,)), "type torch.QUInt4Storage"),
        (tensor(Persistent(("storage", 5)), (7,), (1,)), "neither a storage nor a class"),
        (tensor(Persistent("0"), (7,), (1,)), "neither a storage nor a class"),
        (tensor({}, (7,), (1,)), "a cannot be read"),
        (Call("torch._utils._rebuild_tensor_v2"), "a cannot be read"),
        (Call("torch._utils._rebuild_tensor_v3", _A.arguments), "a cannot be read"),
        (
            Call("torch._utils._rebuild_tensor_v3", (*_A.arguments, Name("torch.float8_e5m2"))),
            "a is of type float8_e5m2. In PyTorch, make it a plain float32 tensor",
        ),
        (
            Call("torch._utils._rebuild_tensor_v2", (*_A.arguments, {"neg": True})),
            "a is negated or conjugated on use. In PyTorch",
        ),
        (Call("numpy.core.multiarray._reconstruct"), "a cannot be read"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(path, value, message):
    with pytest.raises(InputError, match=message) as error:
        _reads(path, {"a": value})
    assert "\n" not in str(error.value)


def test_a_huge_view_of_one_element_takes_no_memory(path):
    value = _reads(path, {"a": tensor(storage(VALUES, "0"), (2**20, 2**20), (0, 0))})["a"]
    assert value.shape == (2**20, 2**20) and value.strides == (0, 0)


def _as_bytes(write, *arguments, **more):
    file = io.BytesIO()
    write(file, *arguments, **more)
    return file.getvalue()


def _zip(compression=zipfile.ZIP_STORED, **records):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"a/{name.replace('_', '.')}", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "is an ONNX model"),
        (b"\x60\0\0\0\0\0\0\0" + b'{"__metadata__":{}}', "is a safetensors file"),
        (b"\n<!DOCTYPE html><html>Sign in", "is a page of HTML"),
        (b"\x1c\0\0\0TFL3\x14\0", "is a TFLite model"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"\x1f\x8b\x08", "is a gzip archive"),
        (b"a".ljust(257, b"\0") + b"ustar", "is a tar archive"),
        (_as_bytes(np.save, np.zeros(2)), "is a NumPy array"),
        (_as_bytes(np.savez, a=np.zeros(2)), "ZIP archive without PyTorch's data.pkl"),
        (b"no checkpoint", "does not begin as PyTorch's files do"),
        (torch_writer.dumps({"a": 1}), "does not begin as PyTorch's files do"),
        (_zip(data_pkl=b"N.", constants_pkl=b"N."), "TorchScript program. In PyTorch: torch.save"),
        (_zip(zipfile.ZIP_DEFLATED, data_pkl=b"N."), "was compressed"),
        (_zip(data_pkl=b"N.", byteorder=b"middle"), "neither little nor big"),
        (_zip(data_pkl=b""), "damaged, cut short or of another kind: pickle exhausted"),
        (b"PK\3\4", "its ZIP archive cannot be read"),
    ],
)
def test_other_files_are_told_by_kind(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert any(word in str(error.value) for word in ("Expected", "In PyTorch", "damaged"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    for absent, message in ((tmp_path, "a folder"), (tmp_path / "none.pth", "There is no file")):
        with pytest.raises(InputError, match=message):
            read_state_dict(absent)


def test_records_that_claim_more_than_there_is_are_refused(path):
    """As of a bomb: many names for the same bytes, or a size that is none."""
    records = {f"data/{k}": b"\0" * 1000 for k in range(50)}
    torch_writer.archive(path, {"a": _A}, {"0": VALUES}, **records)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content[start:] = content[start:].replace((1000).to_bytes(4, "little"), b"\xf0\xff\xff\x7f")
    path.write_bytes(content)
    with pytest.raises(InputError, match="claim to be larger than the file"):
        read_state_dict(path)


@pytest.mark.parametrize("count", [13, 2**40, 2**63])
def test_storages_that_claim_more_than_there_is_are_refused(path, count):
    torch_writer.sequence(path, {"a": _A}, {"0": VALUES})
    end = 8 + VALUES.nbytes
    content = path.read_bytes()
    path.write_bytes(content[:-end] + count.to_bytes(8, "little") + content[-end + 8 :])
    with pytest.raises(InputError, match="its storage 0 goes beyond the end"):
        read_state_dict(path)


def test_a_changed_element_is_noticed(path):
    torch_writer.archive(path, {"a": _A}, {"0": VALUES})
    content = path.read_bytes()
    assert content.count(VALUES.tobytes()) == 1
    path.write_bytes(content.replace(VALUES.tobytes(), VALUES[::-1].tobytes()))
    with pytest.raises(InputError, match=r"record data/0 cannot be read \(Bad CRC-32"):
        read_state_dict(path)


@pytest.mark.parametrize("name", ["archive", "sequence", "unsigned"])
def test_cut_files_are_refused(name, path):
    content = Path(torch_samples.FOLDER / f"{name}.pth").read_bytes()
    for length in range(1, len(content), 61):
        path.write_bytes(content[:length])
        with pytest.raises(InputError) as error:
            read_state_dict(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["archive", "sequence", "unsigned"])
def test_damaged_files_are_read_or_refused(name, path):
    generator = np.random.default_rng(0)
    content = np.frombuffer((torch_samples.FOLDER / f"{name}.pth").read_bytes(), np.uint8)
    refused = 0
    for _ in range(150):
        damaged = content.copy()
        places = generator.integers(len(content), size=3)
        damaged[places] = generator.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            read = read_state_dict(path)
            assert all(type(value) is np.ndarray for value in read.values())
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 20 < refused < 150
