"""Signatures: who vouches for what, what is taken back, whose word counts, and that forgeries count for nothing."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb.store import BBError, Store, UsageError
from bb.store.errors import Malformed
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.paths import StorePart, locate
from bb.store.files.quarantine import set_aside
from bb.store.format.adopted import Adopted
from bb.store.local.authors import read_authors
from bb.store.maintenance.compact import compact
from bb.store.maintenance.disk_usage import other_bytes
from bb.store.maintenance.sign import coverage, resolve, revoke, sign, signable
from bb.store.maintenance.verify import verify
from bb.store.signing.key import LOW_ORDER_Y, D, P, check_public, is_point, make_key, read_key
from bb.store.signing.revocation import read_statements
from bb.store.signing.statement import (
    MAX_SIGNATURE_BYTES,
    REVOCATION,
    SIGNATURE,
    SignedItem,
    read_statement,
    sign_items,
    sign_revocation,
)
from bb.store.signing.trust import Trust, acceptance
from bb.store.storage.local import Folder
from bb.store.storage.read_cache import ReadCache
from bb.store.sync.plan import plan_pull
from bb.store.sync.selection import Selection
from bb.store.sync.transfer import pull
from tests.helpers.command_line import caller
from tests.helpers.examples import examples
from tests.helpers.hostile import NASTY, paths_in, replaced
from tests.helpers.newt_runs import labels as newt_labels
from tests.helpers.signers import NOON, STRANGER, A, B, lay
from tests.helpers.stores import features, images, put, read, run_record, segments, space, spread


@pytest.fixture
def store(tmp_path):
    """A collection, 20 rows in four segments, and a run; made elsewhere, so without local records."""
    made = Store.create(tmp_path / "a" / "s.bb")
    spread(made, space(), made.put_collection(images(20)), features(space(), 20), 4)
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    made.put_run(run_record(space=space().key), table, table)
    shutil.rmtree(made.root / "local")
    return made


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Runs a verb of `bb store`, on the test's store where it has one, with settings of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BB_STORE", str(tmp_path / "a" / "s.bb"))
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys, "store")


def fresh(store, *trusted):
    """The store as another process sees it that trusts these keys."""
    return replace(Store.open(store.root), trusted={k.public: "" for k in trusted}, _judged={})


def items(store, *kinds):
    return [SignedItem.of(part) for part in signable(store) if part.kind in (kinds or ("segment", "collection", "run"))]


def digests(store):
    return [segment.digest for segment in store.segments(space())]


def signature_files(store):
    return [(f"signatures/{p.name}", p.read_bytes()) for p in sorted((store.root / "signatures").glob("*.json"))]


# Keys


def test_keygen_writes_a_key_that_only_its_owner_reads_and_trusts_it(call, tmp_path):
    before = os.umask(0)
    try:
        status, out, err = call("keygen", "--name", "Lab A")
    finally:
        os.umask(before)
    public = out.strip()
    folder = tmp_path / "config" / "bb"
    assert status == 0 and len(public) == 64
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (folder / "trust.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key.pem.pub").read_text() == f"{public} Lab A\n"
    assert f"bb store trust {public} --name 'Lab A'" in err
    assert call("trust")[1] == f"{public}  Lab A\n"
    found = read_key(folder / "key.pem")
    assert (found.public, found.name) == (public, "Lab A")


def test_a_key_is_never_overwritten(call, tmp_path):
    call("keygen", "--to", tmp_path / "k")
    pem = (tmp_path / "k").read_bytes()
    status, out, err = call("keygen", "--to", tmp_path / "k")
    assert (status, out) == (1, "")
    assert f"{tmp_path / 'k'} is there already and is never overwritten: --to names another file." in err
    assert (tmp_path / "k").read_bytes() == pem
    (tmp_path / "k").unlink()
    status, _, err = call("keygen", "--to", tmp_path / "k")
    assert status == 1 and f"{tmp_path / 'k.pub'} is there already" in err
    assert not (tmp_path / "k").exists(), "no private key without its public one"


def test_a_key_names_no_person_of_its_own_accord(tmp_path):
    made = make_key(tmp_path / "k")
    assert (tmp_path / "k.pub").read_text() == made.public + "\n"
    assert read_key(tmp_path / "k").name is None
    (tmp_path / "k.pub").write_text(f"{A.public} Lab A\n")
    assert read_key(tmp_path / "k").name is None, "the name beside another key is not this key's"


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 101])
def test_a_signers_name_is_one_line(call, name):
    status, _, err = call("keygen", "--name", name)
    assert status == 2 and "can't name a signer: use 1 to 100 characters that can be printed." in err
    assert call("trust")[1].startswith("no key is trusted")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_can_read_is_refused(store, call, tmp_path, mode):
    key = tmp_path / "my key"
    call("keygen", "--to", key)
    key.chmod(mode)
    status, _, err = call("sign", "--key", key)
    assert status == 1
    assert f"the private key {key} has mode {mode:o}, so others can read or change it: chmod 600 '{key}'" in err


def test_what_is_no_key_is_refused(store, call, tmp_path):
    status, _, err = call("sign")
    where = tmp_path / "config" / "bb" / "key.pem"
    assert status == 2 and f"found no key at {where}: `bb store keygen` makes one, --key names another." in err
    path = tmp_path / "k"
    locked = A.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data, what in (
        (b"", "holds no private key in PEM"),
        (os.urandom(100), "holds no private key in PEM"),
        (locked, "is locked by a passphrase"),
        (rsa, "holds no Ed25519 key"),
    ):
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(BBError, match=f"{what}: --key takes a file that `bb store keygen` made"):
            read_key(path)
    call("keygen")
    status, _, err = call("sign", "--key", f"{where}.pub")
    assert status == 1 and f"{where}.pub holds no private key in PEM" in err and "chmod" not in err


def double(x, y):
    """A point added to itself (RFC 8032, 5.1.4, in affine coordinates)."""
    xx, yy, xy = x * x % P, y * y % P, x * y % P
    return 2 * xy * pow(1 + D * xx * yy, -1, P) % P, (yy + xx) * pow(1 - D * xx * yy, -1, P) % P


def test_public_keys_of_low_order_and_what_is_no_point_are_refused():
    for y in LOW_ORDER_Y:
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == square, "it is a point"
        for _ in range(3):
            x, y = double(x, y)
        assert (x, y) == (0, 1), "eight times it is nothing"
    for y in LOW_ORDER_Y:
        for encoded in (y, y + 2**255, *([y + P] if y + P < 2**255 else [])):
            with pytest.raises(UsageError, match="not a public key that can be trusted"):
                check_public(encoded.to_bytes(32, "little").hex())
    assert not is_point((2).to_bytes(32, "little").hex()), "y = 2 is on no point"
    assert all(is_point(k.public) for k in (A, B, STRANGER))
    assert check_public(A.public.upper()) == A.public


# Trusted keys


def test_trusted_keys_are_listed_added_named_and_removed(call, tmp_path):
    assert call("trust")[1] == "no key is trusted; `bb store trust KEY` trusts one, `bb store keygen` makes one\n"
    make_key(tmp_path / "k", "Lab K")
    public = (tmp_path / "k.pub").read_text().split()[0]
    assert call("trust", tmp_path / "k.pub")[1] == f"{public}  Lab K\n"
    assert call("trust", A.public, "--name", "Lab A")[0] == 0
    assert json.loads(call("trust", "--json")[1]) == {A.public: "Lab A", public: "Lab K"}
    call("trust", A.public)
    assert json.loads(call("trust", "--json")[1])[A.public] == "Lab A", "its name stays"
    assert call("trust", "--remove", "Lab K")[1] == f"{A.public}  Lab A\n"
    assert call("trust", "--remove", A.public[:10])[1].startswith("no key is trusted")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["abc"], 2, "'abc' is not a public key: that is 64 hex digits, as `bb store keygen` prints them."),
        (["nowhere.pub"], 2, "the file nowhere.pub does not exist: give the 64 hex digits of a public key, or a"),
        (["00" * 32], 2, "is not a public key that can be trusted: anyone could sign in its name, or no one."),
        (["--name", "x"], 2, "--name of which key? bb store trust KEY"),
        (["--remove"], 2, "--remove of which key? bb store trust KEY"),
        (["--remove", "abc"], 2, "'abc' is none of the keys that you trust: see `bb store trust`."),
        ([A.public, "--name", "a\tb"], 2, "can't name a signer"),
    ],
)
def test_what_trust_refuses(call, arguments, status, message):
    found, out, err = call("trust", *arguments)
    assert (found, out) == (status, "") and message in err


def test_trust_refuses_files_that_hold_no_public_key(call, tmp_path):
    make_key(tmp_path / "k")
    status, _, err = call("trust", tmp_path / "k")
    assert status == 1
    assert f"{tmp_path / 'k'} is a private key, which nobody else should see: give {tmp_path / 'k.pub'}." in err
    for data, message in (
        (b"\xff", f"'' in {tmp_path / 'x.pub'} is not a public key"),
        (b"zz lab", f"'zz' in {tmp_path / 'x.pub'} is not a public key"),
        (A.public.encode() + b" a\nb", "names its signer in more than a line of 100 characters"),
    ):
        (tmp_path / "x.pub").write_bytes(data)
        status, _, err = call("trust", tmp_path / "x.pub")
        assert status in (1, 2) and message in err


def test_names_that_begin_alike_are_not_removed_by_chance(tmp_path):
    trust = Trust({A.public: "Lab", B.public: "Lab"})
    with pytest.raises(UsageError, match="'Lab' is or begins 2 of the keys that you trust"):
        trust.without("Lab")


def test_a_list_of_trusted_keys_that_others_can_write_is_refused(store, call, tmp_path, monkeypatch):
    call("trust", A.public)
    path = tmp_path / "config" / "bb" / "trust.json"
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        for verb in ("trust", "ls"):
            status, _, err = call(verb)
            assert status == 1
            assert f"the trusted keys in {path} have mode {mode:o}, so others can change them: chmod 600 {path}" in err
    path.chmod(0o600)
    own = path.stat().st_uid
    if own == 0:
        os.chown(path, 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(BBError, match="are another user's file: move it away"):
        Trust.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"trusted": []}', b'{"trusted": {"x": ""}}', b'{"trusted": {"%s": 1}}' % A.public.encode(),
     b'{"trusted": {"%s": ""}}' % (b"00" * 32), b"[" * 100_000, b" " * (2**20 + 1), b"\xff"],
)  # fmt: skip
def test_a_damaged_list_of_trusted_keys_is_refused(tmp_path, content):
    path = tmp_path / "trust.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BBError, match="is not a list of trusted keys: move it away, and `bb store trust` them again"):
        Trust.load(path)


def test_a_pipe_in_the_place_of_the_trusted_keys_is_not_waited_for(call, tmp_path):
    (tmp_path / "config" / "bb").mkdir(parents=True)
    os.mkfifo(tmp_path / "config" / "bb" / "trust.json", 0o600)
    status, _, err = call("trust")
    assert status == 1 and "trust.json: is a pipe, not a file. Fix this and rerun the command." in err


# Signing


def test_a_signature_lists_all_that_lies_in_the_store_and_nothing_else(store, tmp_path):
    (store.root / "tmp").mkdir(exist_ok=True)
    (store.root / "tmp" / "x.json").write_text("{}")
    for top in ("heads", f"spaces/{space().key}/adopted"):
        (store.root / top).mkdir(parents=True)
    head, labels = b"head", store.put_labels("newt", newt_labels().table, collection="pics", licence="MIT")
    (store.root / "heads" / f"{sha256_hex(head)}.safetensors").write_bytes(head)
    older = space(code="9" * 40)
    adopted = Adopted(older.key, space().key, (older.code, space().code), ("a" * 64,), 0.0, 1e-3, {})
    (store.root / "spaces" / space().key / "adopted" / f"{adopted.digest}.json").write_bytes(adopted.raw)
    set_aside(store.root, segments(store)[0])
    (path,), parts = sign(store, A)
    assert path.stem == sha256_hex(path.read_bytes())
    document = json.loads(path.read_bytes())
    assert path.read_bytes() == canonical_json(document) + b"\n"
    statement = document["statement"]
    (run,) = store.runs()
    assert {name: value for name, value in statement.items() if name != "date"} == {
        "domain": "bb store signature 1",
        "signer": "Lab A",
        "public_key": A.public,
        "segments": {space().key: digests(store)},
        "adopted": {space().key: [adopted.digest]},
        "collections": {"pics": [images(20).digest]},
        "labels": {"newt": [labels.digest]},
        "runs": {run.run_id: [run.digest]},
        "heads": [sha256_hex(head)],
    }
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(A.public)).verify(
        bytes.fromhex(document["signature"]), b"bb store signature 1\0" + canonical_json(statement)
    )
    parsed = read_statement(path.stem, path.read_bytes())
    assert parsed.items == {SignedItem.of(part) for part in parts} and len(parts) == 8
    assert fresh(store).statements().signatures == [parsed]
    assert verify(fresh(store)).faults == []


def test_signing_again_lists_what_is_new_or_says_that_nothing_is(call, store):
    call("keygen")
    status, out, _ = call("sign")
    public = call("trust")[1].strip()
    assert status == 0 and out.startswith(f"signed by {public}: 1 collection, 1 run, 4 segments\n")
    assert call("sign")[1] == f"nothing new: all of it is signed by {public}\n"
    assert len(signature_files(store)) == 1
    digest = put(store, space(), features(space(), 3), images(3, salt="x").all_digests()).name
    assert json.loads(call("sign", "--json")[1])["signed"] == {"segment": 1}
    added = [read_statement(name[11:-5], raw).items for name, raw in signature_files(store)]
    assert {SignedItem("segment", space().key, digest)} in added


def test_a_large_store_is_signed_in_several_statements(store, monkeypatch):
    monkeypatch.setattr("bb.store.maintenance.sign.MOST", 4)
    files, parts = sign(store, A)
    assert len(files) == 2 and len(parts) == 6
    assert coverage(fresh(store)).by_key == {A.public: 6}


def test_a_damaged_store_is_not_signed(call, store):
    call("keygen")
    chunk = segments(store)[1] / "img_features" / "c" / "0" / "0"
    chunk.write_bytes(b"x" * chunk.stat().st_size)
    status, _, err = call("sign")
    assert status == 1
    assert f"{store.root} has 1 faults, the first: space {space().key[:12]}: segment {segments(store)[1]} is" in err
    assert "A damaged store is not signed: `bb store verify --repair` moves aside what is bad." in err
    assert not (store.root / "signatures").exists()


def test_revoked_labels_and_adopted_records_are_not_read(store):
    newer = space(code="9" * 40)
    labels = store.put_labels("newt", newt_labels().table, collection="pics", licence="MIT")
    adopted = Adopted(space().key, newer.key, (space().code, newer.code), ("a" * 64,), 0.0, 1e-3, {})
    store.put_adopted(adopted, newer)
    mine = replace(store, trusted={A.public: "A"})
    assert len(mine.labels("newt")) == len(mine.predecessors(newer)) == 1
    revoke(mine, A, [labels.digest, adopted.digest])
    assert mine.labels("newt") == mine.predecessors(newer) == []
    with pytest.raises(BBError, match="is revoked and would not be read"):
        mine.put_adopted(adopted, newer)


def test_label_tables_heads_and_adopted_records_are_verified(store):
    for path in (
        f"heads/{'1' * 64}.safetensors",
        f"labels/newt/{'2' * 64}.parquet",
        f"spaces/{space().key}/adopted/{'3' * 64}.json",
    ):
        (store.root / path).parent.mkdir(parents=True)
        (store.root / path).write_bytes(b"x")
    found = verify(store)
    assert len(found.faults) == 3
    assert all("does not have the digest in its name" in fault.what for fault in found.faults)


def test_what_verify_does_not_reach_is_not_signed(store):
    other = space(weights="2" * 64)
    put(store, other, features(other, 3)).joinpath("img_features/c/0/0").write_bytes(b"")
    (store.root / "spaces" / other.key / "zarr.json").unlink()
    _, parts = sign(store, A)
    assert other.key not in {part.owner for part in parts} and len(parts) == 6


def test_one_space_can_be_signed(call, store):
    call("keygen")
    other = space(weights="2" * 64)
    put(store, other, features(other, 3), provenance={"backbone": "timm:other/untrained"})
    said = json.loads(call("sign", "--space", other.key[:12], "--json")[1])
    assert said["signed"] == {"collection": 1, "segment": 1}
    said = json.loads(call("sign", "--ckpt", "timm:tiny/untrained", "--json")[1])
    assert said["signed"] == {"run": 1, "segment": 4}
    status, _, err = call("sign", "--ckpt", "timm:absent/untrained")
    assert status == 2 and "has no features of timm:absent/untrained: see `bb store ls`." in err


# Revoking


def test_a_revoked_replicate_gives_way_to_the_next(store):
    x = features(space(), 20)
    more = [put(store, space(), x + np.float16(0.001 * i), provenance={"i": i}).name for i in range(3)]
    assert len(more) == 3
    rows = fresh(store, A).rows(space())
    first = {rows.segments[i].digest for i in np.unique(rows.segment)}
    revoke(store, A, sorted(first), "wrong crop")
    left = fresh(store, A)
    assert set(digests(left)).isdisjoint(first)
    assert len(left.rows(space())) == 20
    again = {left.rows(space()).segments[i].digest for i in np.unique(left.rows(space()).segment)}
    assert again and again.isdisjoint(first)


def test_collections_and_runs_that_are_revoked_are_not_read(store, call):
    call("trust", A.public)
    (run,) = store.runs()
    revoke(store, A, [run.digest, images(20).digest], "mixed up")
    left = fresh(store, A)
    assert left.collections("pics") == [] and list(left.runs()) == [] and list(left.runs(run.run_id)) == []
    with pytest.raises(UsageError, match="has no collection pics that is not revoked"):
        left.collection("pics", ["000.png"])
    with pytest.raises(BBError, match=r"collection pics@ \w{12} is revoked and would not be read: `bb store verify`"):
        left.put_collection(images(20))


def test_without_signatures_nothing_is_read_but_one_folder(store, monkeypatch):
    opened, seen, real = fresh(store, A), [], Directory.entries
    monkeypatch.setattr(Directory, "entries", lambda self, path="": seen.append(self.path / path) or real(self, path))
    assert opened.judged().effective == {} and seen == [store.root / "signatures"]


def test_signature_files_are_read_once_in_a_process(store, monkeypatch):
    revoke(store, A, digests(store)[:1])
    opened = fresh(store, A)
    assert len(opened.revoked()) == 1
    monkeypatch.setattr("bb.store.signing.revocation.read_statement", None)
    assert len(opened.revoked()) == 1
    monkeypatch.undo()
    revoke(store, A, digests(store)[1:2])
    assert len(opened.revoked()) == 2, "a file that came later is seen"


def pulled(store, root, **options):
    return pull(plan_pull(Folder(store.root), root, Selection(), **options))


def test_an_author_takes_back_what_is_theirs_also_from_those_who_do_not_trust_them(store, tmp_path):
    sign(store, A)
    pulled(store, tmp_path / "b.bb")
    there = Store.open(tmp_path / "b.bb")
    first = digests(store)[0]
    revoke(store, A, [first])
    assert pulled(store, there.root).faults == []
    assert fresh(there).revoked().keys() == {first} and first not in digests(fresh(there))
    assert first not in [part.digest for part in signable(pull_to(store, tmp_path / "c.bb"))], "nor is it pulled anew"


def pull_to(store, root, **options):
    pulled(store, root, **options)
    return Store.open(root)


def test_a_signature_that_comes_later_withdraws_nothing(store, tmp_path):
    """A stranger signs what nobody had signed, and takes it back: not from those who had it before."""
    mine = pull_to(store, tmp_path / "mine.bb")
    evil = Store.create(tmp_path / "evil.bb")
    every = items(store)
    lay(evil, sign_items(STRANGER, every, NOON))
    lay(evil, sign_revocation(STRANGER, [item.digest for item in every], "mine", NOON))
    plan = plan_pull(Folder(evil.root), mine.root, Selection())
    assert [fault.why for fault in plan.faults] == [
        f"a key that you don't trust, {STRANGER.public}, takes back {len(every)} objects that were here before it "
        f"signed them; `bb store trust {STRANGER.public}` applies it"
    ]
    pull(plan)
    assert fresh(mine).revoked() == {} and fresh(mine).statements().revocations == []
    lay(mine, sign_revocation(STRANGER, [item.digest for item in every], "mine", NOON))
    assert fresh(mine).revoked() == {}, "nor where its file was copied there by other means"
    assert len(fresh(mine).judged().ignored) == len(every)


def test_a_claim_that_was_here_first_withdraws_nothing(store, tmp_path):
    evil, mine = Store.create(tmp_path / "evil.bb"), tmp_path / "mine.bb"
    every = items(store)
    lay(evil, sign_items(STRANGER, every, NOON))
    lay(evil, sign_revocation(STRANGER, [item.digest for item in every], "mine", NOON))
    pulled(evil, mine)
    pulled(store, mine)
    assert fresh(Store.open(mine)).revoked() == {} and len(digests(fresh(Store.open(mine)))) == 4


def test_only_statements_of_trusted_keys_come_in_where_signatures_are_required(store, tmp_path):
    every = items(store)
    sign(store, A)
    mine = pull_to(store, tmp_path / "mine.bb", trusted={A.public: ""}, require_signed=True)
    evil = Store.create(tmp_path / "evil.bb")
    files = [lay(evil, sign_items(STRANGER, every, NOON)),
             lay(evil, sign_revocation(STRANGER, [item.digest for item in every], "mine", NOON))]  # fmt: skip
    outcome = plan_pull(Folder(evil.root), mine.root, Selection(), trusted={A.public: ""}, require_signed=True)
    told = (
        f"a statement of {STRANGER.public}, a key that you don't trust; `bb store trust {STRANGER.public}` lets it in"
    )
    assert sorted((left.part.digest, left.why) for left in outcome.faults) == sorted((f.stem, told) for f in files)
    pull(outcome)
    assert len(fresh(mine, A).statements().valid) == 1 and fresh(mine, A).revoked() == {}


def test_a_record_of_authors_that_came_with_a_store_counts_for_nothing(store, tmp_path, monkeypatch):
    sign(store, A)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    theirs = pull_to(store, tmp_path / "theirs.bb")
    assert len(read_authors(theirs.root)) == len(items(store))
    revoke(theirs, A, digests(store))
    assert len(fresh(theirs).revoked()) == 4
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "here"))
    assert read_authors(theirs.root) == {} and fresh(theirs).revoked() == {}


def test_a_revocation_once_seen_in_place_is_remembered(store, tmp_path):
    revoke(store, A, digests(store)[:1], "wrong crop")
    mirror = ReadCache.open(Folder(store.root), folder=tmp_path / "cache")
    assert len(replace(Store.open(mirror.root), trusted={A.public: ""}).revoked()) == 1
    shutil.rmtree(store.root / "signatures")
    mirror = ReadCache.open(Folder(store.root), folder=tmp_path / "cache")
    assert len(replace(Store.open(mirror.root), trusted={A.public: ""}).revoked()) == 1


def test_a_stranger_withdraws_nothing_of_others(store):
    every = [item.digest for item in items(store)]
    revoke(store, STRANGER, every)
    assert fresh(store).revoked() == {}, "who has signed nothing has nothing to take back"
    sign(store, A)
    sign(store, STRANGER)
    found = fresh(store)
    assert found.revoked() == {} and found.judged().ignored.keys() == set(every), "what others signed too stays"
    assert fresh(store, A).revoked() == {}
    assert fresh(store, STRANGER).revoked().keys() == set(every), "trusting the key applies it"


def test_a_stranger_withdraws_nothing_that_was_made_here(tmp_path):
    made = Store.create(tmp_path / "s.bb")
    spread(made, space(), made.put_collection(images(20)), features(space(), 20), 2)
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    made.put_run(run_record(space=space().key), table, table)
    sign(made, STRANGER)
    revoke(made, STRANGER, [item.digest for item in items(made)])
    assert fresh(made).revoked() == {}
    assert len(fresh(made).judged().ignored) == 4
    shutil.rmtree(made.root / "local")
    assert fresh(made).revoked() == {}, "it signed what was here already"


def test_revoke_resolves_beginnings_and_run_ids(store):
    first, (run,) = digests(store)[0], store.runs()
    absent = "f" * 64
    assert resolve(store, [first[:9], run.run_id[:12], run.digest, absent]) == [first, run.digest, absent]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "'abc' is not a digest: give 64 hex digits, or the first 8 or more of them."),
        ("../../../../etc", "is not a digest"),
        ("0" * 20, "0" * 20 + " names no object of"),
        (space().key[:12], "names a feature space, which others may fill as well: revoke its segments"),
    ],
)
def test_what_revoke_refuses(store, call, text, message):
    call("keygen")
    status, out, err = call("revoke", text)
    assert (status, out) == (2, "") and message in err


def test_a_beginning_of_several_objects_is_refused(store):
    (store.root / "heads").mkdir()
    for end in "12":
        (store.root / "heads" / f"{'b' * 63}{end}.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="begins the names of 2 objects of .*: give the digest in full"):
        resolve(store, ["b" * 10])


def test_too_much_is_not_revoked_at_once(store):
    with pytest.raises(UsageError, match="32769 digests are too many for one statement: revoke up to 32768"):
        revoke(store, A, [f"{i:064x}" for i in range(32_769)])


def test_the_largest_statements_fit_their_bound():
    name = "x" * 100
    many = [SignedItem("collection", name, f"{i:064x}") for i in range(32_768)]
    runs = [SignedItem("run", f"{i:064x}", f"{i:064x}") for i in range(32_768)]
    for chosen in (many, runs):
        raw = sign_items(A, chosen)
        assert len(raw) < MAX_SIGNATURE_BYTES
        assert len(read_statement(sha256_hex(raw), raw).items) == 32_768


def test_revoke_in_words(call, store):
    call("keygen", "--name", "Lab A")
    first = digests(store)[0]
    status, out, err = call("revoke", first[:12], "--reason", "a\nb")
    assert status == 2 and "--reason takes a line of 1 to 1000 characters that can be printed." in err
    status, out, err = call("revoke", first[:12], "--reason", "wrong crop")
    assert (status, err) == (0, "") and out.startswith(f"revoked {first}\n")
    assert "has revoked that already" in call("revoke", first)[1]
    public = call("trust")[1].split()[0]
    why = rf"segment {first}: revoked by {public[:12]} (Lab A) on 20"
    for verb in (["ls"], ["info", space().key], ["verify"]):
        status, out, _ = call(*verb)
        assert status == 0 and why in out and ": wrong crop" in out
    assert first in json.loads(call("verify", "--json")[1])["revoked"]
    assert first in json.loads(call("info", space().key, "--json")[1])["revoked"]
    assert json.loads(call("ls", "--json")[1])[0]["segments"] == 3
    call("trust", "--remove", public)
    _, out, err = call("revoke", digests(store)[1])
    assert f"note: 1 of them are still read here, since you don't trust the key: bb store trust {public}" in err


def test_compact_merges_nothing_that_is_revoked(store):
    doomed = fresh(store, A).segments(space())[0]
    revoke(store, A, [doomed.digest])
    left = fresh(store, A)
    (made,) = compact(left, space()).made
    assert len(fresh(store, A).rows(space())) == 15
    assert doomed.folder.exists() and digests(fresh(store, A)) == [made]
    assert not set(map(bytes, doomed.keys)) & set(map(bytes, fresh(store, A).segments(space())[0].keys))
    assert verify(fresh(store, A)).faults == []


def test_what_was_merged_and_revoked_is_not_merged_to_the_same_again(store):
    before = digests(store)
    (made,) = compact(store, space()).made
    revoke(store, A, [made])
    for digest in before:
        os.rename(store.root / "aside" / "spaces" / space().key / "segments" / digest,
                  store.root / "spaces" / space().key / "segments" / digest)  # fmt: skip
    with pytest.raises(BBError, match="is revoked and would not be read"):
        compact(fresh(store, A), space())
    assert digests(fresh(store, A)) == before


def test_du_counts_what_is_revoked(store):
    assert other_bytes(fresh(store, A))["revoked"] == 0
    first = store.segments(space())[0]
    revoke(store, A, [first.digest])
    assert other_bytes(fresh(store, A))["revoked"] == first.n_bytes


def test_disagreeing_replicates_are_settled_by_a_revocation(store):
    wrong = put(store, space(), features(space(), 20, seed=7)).name
    assert any("disagree" in fault.what for fault in verify(fresh(store, A)).faults)
    revoke(store, A, [wrong])
    assert verify(fresh(store, A)).faults == []


# What verify says


def test_verify_says_who_vouches_for_what(call, store):
    assert "signed" not in call("verify")[1]
    some = items(store, "segment")[:3]
    lay(store, sign_items(A, [*some, SignedItem("head", "", "e" * 64)], NOON))
    lay(store, sign_items(STRANGER, some[:1], NOON))
    status, out, _ = call("verify")
    assert status == 0
    lines = out.splitlines()
    told = f"{A.public[:12]} (who claims to be 'Lab A'), whom you don't trust (bb store trust {A.public})"
    assert f"3 of 6 objects are signed by {told}" in lines
    assert any(line.startswith("3 of 6 objects are signed by nobody: collections/pics/") for line in lines)
    call("trust", A.public, "--name", "our friends")
    assert f"3 of 6 objects are signed by {A.public[:12]} (our friends), whom you trust" in call("verify")[1]
    said = json.loads(call("verify", "--json")[1])
    assert said["signed"]["by_key"] == {A.public: 3, STRANGER.public: 1} and said["signatures"] == 2
    lay(store, sign_revocation(STRANGER, [some[0].digest, "d" * 64], "ha", NOON))
    status, out, _ = call("verify")
    assert status == 0 and "d" * 64 not in out
    assert f"segment {some[0].digest}: revoked by {STRANGER.public[:12]} (who claims to be 'Lab A') on " in out
    assert f"`bb store trust {STRANGER.public}` applies it" in out


def test_verify_names_a_forged_signature_and_repair_sets_it_aside(call, store):
    raw = sign_items(A, items(store))
    path = lay(store, raw.replace(b"Lab A", b"Lab B"))
    status, out, _ = call("verify")
    assert status == 1
    assert f"signature {path} is damaged or forged, and counts for nothing: its signature is not that of the key" in out
    status, out, _ = call("verify", "--repair")
    assert status == 1 and f"moved to {store.root / 'aside' / 'signatures' / path.name}" in out
    assert call("verify")[0] == 0
    assert "signatures/" in call("gc")[1]


# Forgeries


def sealed(statement, signer=A, domain=None):
    """A file as its maker would write it, whatever the statement is."""
    signature = signer.sign(domain or statement["domain"], statement)
    return canonical_json({"signature": signature, "statement": statement}) + b"\n"


GOOD = sign_items(A, [SignedItem("segment", "1" * 64, "2" * 64), SignedItem("collection", "pics", "3" * 64),
                      SignedItem("head", "", "4" * 64), SignedItem("run", "5" * 64, "6" * 64)], NOON)  # fmt: skip
TAKEN_BACK = sign_revocation(A, ["2" * 64, "3" * 64], "wrong crop", NOON)


def changed(raw, path, value):
    return replaced(json.loads(raw)["statement"], path, value)


FORGERIES = {
    "a byte of the statement changed": (GOOD.replace(b"2222", b"2223", 1), "not an ascending|not that of the key"),
    "another digest": (GOOD.replace(b"2" * 64, b"7" * 64), "not that of the key"),
    "not canonical": (GOOD.replace(b":", b": ", 1), "canonical JSON"),
    "no newline": (GOOD[:-1], "canonical JSON"),
    "a field twice": (GOOD.replace(b'"heads"', b'"heads":[],"heads"', 1), "canonical JSON"),
    "empty": (b"", "canonical JSON"),
    "no JSON": (b"\xff\xfe", "canonical JSON"),
    "deep": (b"[" * 200_000, "canonical JSON"),
    "half a surrogate pair": (GOOD.replace(b"Lab A", rb"\ud800"), "canonical JSON"),
    "a huge number": (b'{"signature":' + b"9" * 5000 + b"}\n", "canonical JSON"),
    "too large": (GOOD + b" " * MAX_SIGNATURE_BYTES, "8388608 can be"),
    "another field beside": (canonical_json({**json.loads(GOOD), "x": 1}) + b"\n", "canonical JSON"),
    "another domain": (sealed(changed(GOOD, ("domain",), "bb store signature 2")), "of the domain"),
    "signed for another domain": (sealed(json.loads(GOOD)["statement"], domain=REVOCATION), "not that of the key"),
    "another's key": (sealed(json.loads(GOOD)["statement"], STRANGER), "not that of the key"),
    "a signature used again": (
        canonical_json({"signature": json.loads(GOOD)["signature"], "statement": json.loads(TAKEN_BACK)["statement"]})
        + b"\n",
        "not that of the key",
    ),
    "a signature in capitals": (
        canonical_json({**json.loads(GOOD), "signature": json.loads(GOOD)["signature"].upper()}) + b"\n",
        "it has the signature",
    ),
    "a key of low order": (sealed(changed(GOOD, ("public_key",), "01" + "00" * 31)), "which is none"),
    "a key that is no point": (sealed(changed(GOOD, ("public_key",), "02" + "00" * 31)), "which is none"),
    "a key in capitals": (sealed(changed(GOOD, ("public_key",), A.public.upper())), "which is none"),
    "a field too few": (
        sealed({k: v for k, v in json.loads(GOOD)["statement"].items() if k != "heads"}),
        "it has the fields",
    ),
    "a field too many": (sealed({**json.loads(TAKEN_BACK)["statement"], "x": 1}), "it has the fields"),
    "the fields of the other domain": (sealed(changed(TAKEN_BACK, ("domain",), SIGNATURE)), "it has the fields"),
    "no date": (sealed(changed(GOOD, ("date",), "yesterday")), "it has the date"),
    "an escape in the name": (sealed(changed(GOOD, ("signer",), "\x1b[31m")), "it has the signer"),
    "a long name": (sealed(changed(GOOD, ("signer",), "x" * 101)), "it has the signer"),
    "a long reason": (sealed(changed(TAKEN_BACK, ("reason",), "x" * 1001)), "it has the reason"),
    "a list for an object": (sealed(changed(GOOD, ("segments",), [])), "it has segments"),
    "a path for an owner": (sealed(changed(GOOD, ("collections",), {"../x": ["3" * 64]})), "collections of"),
    "a name for a key": (sealed(changed(GOOD, ("runs",), {"x": ["3" * 64]})), "runs of"),
    "digests out of order": (sealed(changed(TAKEN_BACK, ("digests",), ["3" * 64, "2" * 64])), "not an ascending list"),
    "a digest twice": (sealed(changed(TAKEN_BACK, ("digests",), ["3" * 64] * 2)), "not an ascending list"),
    "a digest too short": (sealed(changed(TAKEN_BACK, ("digests",), ["3"])), "not an ascending list"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_refused(what):
    raw, message = FORGERIES[what]
    with pytest.raises(Malformed, match=message):
        read_statement(sha256_hex(raw), raw)


def test_a_file_under_another_name_is_refused():
    with pytest.raises(Malformed, match="it does not have the digest in its name"):
        read_statement("0" * 64, GOOD)


def test_forgeries_and_oddities_in_the_folder_do_not_disturb_reading(store, tmp_path):
    before = read(store)
    for raw, _ in FORGERIES.values():
        lay(store, raw)
    folder = store.root / "signatures"
    (folder / f"{'a' * 64}.json").mkdir()
    os.mkfifo(folder / f"{'b' * 64}.json")
    os.symlink("/dev/zero", folder / f"{'c' * 64}.json")
    with open(folder / f"{'d' * 64}.json", "wb") as file:
        file.truncate(10**12)
    (folder / "README").write_text("x")
    found = fresh(store, A, STRANGER)
    assert found.revoked() == {} and len(found.statements().faults) == len(FORGERIES) + 4
    np.testing.assert_array_equal(read(store), before)
    assert len(verify(found).faults) == len(FORGERIES) + 4
    shutil.rmtree(folder)
    folder.write_text("no folder")
    assert fresh(store).revoked() == {}
    folder.unlink()
    os.symlink(tmp_path, folder)
    (tmp_path / f"{sha256_hex(GOOD)}.json").write_bytes(GOOD)
    with pytest.raises(BBError, match="signatures is a link, which bb does not follow"):
        fresh(store)


@st.composite
def mutated(draw):
    """(file, whether its key sealed it anew): bytes changed anywhere, or values changed and signed again or not."""
    raw = draw(st.sampled_from([GOOD, TAKEN_BACK]))
    kind = draw(st.sampled_from(["flip", "cut", "grow", "json", "sealed"]))
    if kind == "flip":
        data = bytearray(raw)
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data), False
    if kind == "cut":
        return raw[: draw(st.integers(0, len(raw) - 1))], False
    if kind == "grow":
        return raw + draw(st.binary(min_size=1, max_size=20)), False
    value = json.loads(raw)
    path = draw(st.sampled_from([p for p in paths_in(value) if p]))
    value = replaced(value, path, draw(st.sampled_from(NASTY)))
    try:
        if kind == "sealed" and isinstance(value["statement"], dict):
            return sealed(value["statement"], domain=str(value["statement"].get("domain"))), True
        return canonical_json(value) + b"\n", False
    except (ValueError, TypeError):
        return json.dumps(value).encode(), False


@settings(max_examples=examples(1500), suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(mutated())
def test_a_changed_file_is_refused_or_says_what_its_key_signed(case):
    raw, by_its_key = case
    try:
        found = read_statement(sha256_hex(raw), raw)
    except Malformed as fact:
        assert len(str(fact)) < 400
        return
    assert raw in (GOOD, TAKEN_BACK) or by_its_key
    assert found.public_key == A.public and raw == canonical_json(json.loads(raw)) + b"\n"


# What pull lets in


def part(path):
    found, _ = locate(path)
    return found


def test_only_what_a_trusted_key_has_signed_is_accepted(store):
    sign(store, A)
    other = put(store, space(), features(space(), 3, 9), provenance={"other": 1})
    strangers = put(store, space(), features(space(), 3, 8), provenance={"other": 2})
    lay(store, sign_items(STRANGER, [SignedItem("segment", space().key, strangers.name)]))
    accept = acceptance(signature_files(store), {A.public}, require_signed=True)
    refused = {p.digest: why for p in [*signable(store), part("zarr.json"), part(f"spaces/{space().key}/zarr.json")]
               if (why := accept(p))}  # fmt: skip
    assert refused == {
        other.name: "not signed by a key that you trust: signed by nobody; ask its makers to run `bb store sign`",
        strangers.name: f"not signed by a key that you trust: signed by {STRANGER.public}; "
        f"`bb store trust {STRANGER.public}` lets it in",
    }
    assert {accept(part(path)) is None for path, raw in signature_files(store)} == {True, False}
    nobody = acceptance(signature_files(store), {}, require_signed=True)
    assert nobody(part(f"spaces/{space().key}/zarr.json")) == "nothing in this space is signed by a key that you trust"
    assert all(nobody(p) for p in signable(store))
    anybody = acceptance(signature_files(store), {}, require_signed=False)
    assert not any(anybody(p) for p in signable(store))


def test_a_signature_vouches_under_one_name_only(store):
    sign(store, A)
    accept = acceptance(signature_files(store), {A.public}, require_signed=True)
    digest = images(20).digest
    assert accept(part(f"collections/pics/{digest}.parquet")) is None
    assert "signed by nobody" in accept(part(f"collections/other/{digest}.parquet"))
    assert "signed by nobody" in accept(part(f"labels/pics/{digest}.parquet"))
    assert "signed by nobody" in accept(part(f"spaces/{'9' * 64}/segments/{digests(store)[0]}/zarr.json"))


@pytest.mark.parametrize("require_signed", [True, False])
def test_what_is_revoked_is_never_accepted(store, require_signed):
    sign(store, A)
    revoke(store, A, [item.digest for item in items(store)], "wrong crop")
    accept = acceptance(signature_files(store), {A.public}, require_signed=require_signed)
    for found in signable(store):
        assert accept(found).startswith(f"revoked by {A.public[:12]}") and accept(found).endswith(": wrong crop")
    assert accept(part("zarr.json")) is None


def test_forged_signatures_let_nothing_in_and_are_not_taken(store):
    path = lay(store, sign_items(A, items(store)).replace(b"Lab A", b"Lab B"))
    accept = acceptance(signature_files(store), {A.public}, require_signed=True)
    assert all("signed by nobody" in accept(p) for p in signable(store))
    assert accept(part(f"signatures/{path.name}")).startswith("damaged or forged: its signature is not that")
    assert read_statements([("x.json", b"")]).faults


def test_two_labs(store, tmp_path, call):
    """A signs, B copies, trusting A or not; A takes a segment back; B reads, merges and verifies without it."""
    call("keygen", "--name", "Lab A")
    public = call("trust")[1].split()[0]
    assert call("sign")[0] == 0
    b = tmp_path / "b" / "s.bb"
    shutil.copytree(store.root, b)
    there = Store.open(b)
    parts: list[StorePart] = signable(there)
    assert all(acceptance(signature_files(there), {}, require_signed=True)(p) for p in parts)
    assert not any(acceptance(signature_files(there), {public}, require_signed=True)(p) for p in parts)
    first = digests(store)[0]
    assert call("revoke", first, "--reason", "wrong crop")[0] == 0
    shutil.copytree(store.root / "signatures", b / "signatures", dirs_exist_ok=True)
    call("trust", "--remove", public)
    for trusted in ([], [public]):
        for who in trusted:
            call("trust", who, "--name", "our friends")
        status, out, _ = call("verify", "--store", b)
        assert status == 0 and f"segment {first}: revoked by {public[:12]}" in out
        seen = replace(Store.open(b), trusted=dict.fromkeys(trusted, ""))
        assert (first in digests(seen)) == (not trusted), "a copy tells nothing of who signed what first"
        assert len(seen.rows(space())) == (15 if trusted else 20)
        accept = acceptance(signature_files(there), trusted, require_signed=bool(trusted))
        assert [p.digest for p in parts if accept(p)] == [first]
    assert call("compact", "--store", b)[0] == 0
    assert len(replace(Store.open(b), trusted={public: ""}).rows(space())) == 15
