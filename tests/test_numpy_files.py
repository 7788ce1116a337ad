"""NumPy's files: what their pickles would call is not called, what they claim is not believed."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.numpy_files import read_array, read_arrays


class _Calls:
    def __init__(self, function, *arguments):
        self._asked = function, arguments

    def __reduce__(self):
        return self._asked


def _header(shape, dtype) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "?", "<U3", "c8"])
def test_arrays_are_those_that_numpy_wrote(order, dtype, tmp_path):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    for shaped in (values, values[0, 0, 0], values[:0]):
        np.save(tmp_path / "a.npy", shaped)
        read = read_array(tmp_path / "a.npy")
        np.testing.assert_array_equal(read, shaped)
        assert read.dtype == shaped.dtype
    np.savez_compressed(tmp_path / "a.npz", values=values, other=values)
    assert [*read_arrays(tmp_path / "a.npz", "values")] == ["values"]


def test_objects_are_plain_values(tmp_path):
    values = np.array([None, "a", {1: (2.0, np.float32(3))}, np.eye(2)], object)
    np.savez(tmp_path / "a.npz", values=values)
    read = read_arrays(tmp_path / "a.npz", "values", objects=True)["values"]
    assert read[:3].tolist() == values[:3].tolist()
    np.testing.assert_array_equal(read[3], np.eye(2))
    with pytest.raises(InputError, match="it holds objects"):
        read_arrays(tmp_path / "a.npz", "values")


def test_nothing_is_called(tmp_path):
    target = tmp_path / "called"
    values = np.empty(1, object)
    values[0] = _Calls(open, str(target), "w")
    content = _header((1,), "|O") + pickle.dumps(values)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("values.npy", content)
    with pytest.raises(InputError, match=r"it would call .*open"):
        read_arrays(tmp_path / "a.npz", "values", objects=True)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_header((2**40, 2**40), "<f4"), "says that it holds"),
        (_header((3,), "<f4") + bytes(8), "says that it holds|cut short"),
        (_header((3,), "|O") + bytes(8), "it holds objects"),
        (b"\x93NUMPY\x03\x00", "its format is 3.0"),
        (b"", "not an array that NumPy can read"),
    ],
)
def test_what_is_no_array_is_refused(content, message, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_array(tmp_path / "a.npy")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdense.numpy_files.LARGEST", 10_000)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2000), b=np.zeros(10))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_arrays(tmp_path / "a.npz", "a")
    assert read_arrays(tmp_path / "a.npz", "b")["b"].shape == (10,)
