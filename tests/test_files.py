import gzip
import hashlib

import numpy as np

from toolchain.files import file_bytes, gzip_bytes, sha256


def test_gzip_bytes_are_those_of_gzip_level_6_without_a_file_name(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(np.random.default_rng(0).integers(0, 4, 3_000_000, np.uint8).tobytes())

    assert gzip_bytes([path]) == len(gzip.compress(path.read_bytes(), 6))


def test_bytes_of_several_files_are_added_up(tmp_path):
    for name, count in (("a", 3), ("b", 5)):
        (tmp_path / name).write_bytes(bytes(count))
    assert file_bytes([tmp_path / "a", tmp_path / "b"]) == 8


def test_the_digest_is_that_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert sha256(path) == hashlib.sha256(b"abc").hexdigest()
