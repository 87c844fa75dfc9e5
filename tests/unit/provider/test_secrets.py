from pathlib import Path

from holdfast.provider.secrets import Secrets


def test_a_replica_that_starts_takes_no_files_from_those_that_run(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    secrets.put("openfaas-fn", "key", b"old")
    before = secrets.give("openfaas-fn", "hello-1", ("key",))
    secrets.put("openfaas-fn", "key", b"new")
    after = secrets.give("openfaas-fn", "hello-2", ("key",))
    assert before is not None
    assert after is not None
    assert ((before / "key").read_bytes(), (after / "key").read_bytes()) == (b"old", b"new")
    assert (after / "key").stat().st_mode & 0o777 == 0o600
    secrets.take_back("openfaas-fn", "hello-2")
    assert not after.exists()
    assert (before / "key").exists()


def test_a_name_that_no_file_can_have_is_no_secret_and_the_longest_that_one_can_is_kept(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    assert not secrets.has("openfaas-fn", "n" * 300)
    secrets.put("openfaas-fn", "n" * 253, b"value")
    assert secrets.names("openfaas-fn") == ["n" * 253]
