"""Makes the test vectors of receipts once more, from what goes into them: with the programs of the
guide, which share no code with the server, and with a signer of BIP 340 written here.

    receipts.py EXAMPLES VECTORS
"""

import struct
import sys

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True

import verify_events as events  # noqa: E402
import verify_receipt as receipts  # noqa: E402

# BIP 340's own first vectors: secret, public, auxiliary data, message, signature.
BIP340 = [
    (
        "0000000000000000000000000000000000000000000000000000000000000003",
        "F9308A019258C31049344F85F89D5229B531C845836F99B08601F113BCE036F9",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA8215"
        "25F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0",
    ),
    (
        "B7E151628AED2A6ABF7158809CF4F3C762E7160F38B4DA56A784D9045190CFEF",
        "DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659",
        "0000000000000000000000000000000000000000000000000000000000000001",
        "243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89",
        "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341"
        "8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A",
    ),
]


def public_of(secret):
    """The x-only key, and the secret of the point with an even y."""
    number = int.from_bytes(secret, "big")
    x, y = events.times(events.G, number)
    return x.to_bytes(32, "big"), number if y % 2 == 0 else events.N - number


def sign(secret, message, aux=bytes(32)):
    public, number = public_of(secret)
    mask = int.from_bytes(events.tagged("BIP0340/aux", aux), "big")
    masked = (number ^ mask).to_bytes(32, "big")
    nonce = events.tagged("BIP0340/nonce", masked, public, message)
    k = int.from_bytes(nonce, "big") % events.N
    x, y = events.times(events.G, k)
    k = k if y % 2 == 0 else events.N - k
    r = x.to_bytes(32, "big")
    e = int.from_bytes(events.tagged("BIP0340/challenge", r, public, message), "big") % events.N
    signature = r + ((k + e * number) % events.N).to_bytes(32, "big")
    assert events.signed(public, message, signature)
    return signature


def check_signer():
    for vector in BIP340:
        secret, public, aux, message, signature = map(bytes.fromhex, vector)
        assert public_of(secret)[0] == public
        assert sign(secret, message, aux) == signature, signature.hex()


def made(given):
    """Every vector, by name, of what is given."""
    raw = lambda name: bytes.fromhex(given[name])  # noqa: E731
    at, expires = int(given["at_us"]), int(given["expires_us"])
    user, wtxids = receipts.user_hash(given["user"]), list(map(bytes.fromhex, given["template_wtxids"].split()))
    root = receipts.wtxid_root(wtxids)
    version = int(given["template_version"], 16)
    template = receipts.template_hash(version, raw("template_prefix"), raw("template_suffix"), wtxids)
    found = {"template_hash": template, "wtxid_root": root, "user_hash": user}
    for name in ("authority", "subkey"):
        public, _ = public_of(raw(f"{name}_secret"))
        key_id = bytes.fromhex(events.key_id(public))
        body = struct.pack(
            ">BB8s8sQQ16sI32s32s32s", 1, ord("A"), key_id, raw("server"), at, expires, user,
            int(given["height"]), template, root, raw("prev_hash"),
        )
        signature = sign(raw(f"{name}_secret"), events.tagged("sv2-jd/receipt/1", body))
        found |= {f"{name}_public": public, f"{name}_key_id": key_id, f"{name}_receipt": body + signature}
    vouched = events.tagged("sv2-jd/receipt-key/1", found["subkey_public"])
    found["subkey_endorsement"] = sign(raw("authority_secret"), vouched)
    body = struct.pack(
        ">BB8s8sQ16s32s", 1, ord("R"), found["authority_key_id"], raw("server"), at, user, template
    )
    words = given["rejection_words"]
    message = events.tagged("sv2-jd/rejection/1", body, words.encode())
    found["rejection_proof"] = body + sign(raw("authority_secret"), message)
    texts = {name: value.hex() for name, value in found.items()}
    details = words.split(" ", 1)[1]
    return texts | {"rejection_details": f"{details} proof={texts['rejection_proof']}"}


def check_readers(vectors, found):
    """The programs of the guide take what is right, and nothing that was changed."""
    keys = {bytes.fromhex(found["authority_key_id"]): bytes.fromhex(found["authority_public"])}
    token = bytes.fromhex(vectors["authority_receipt"])
    facts = receipts.check_receipt(token, keys)
    assert facts["template_hash"].hex() == vectors["template_hash"]
    assert (facts["height"], facts["user_hash"].hex()) == (int(vectors["height"]), vectors["user_hash"])
    code, details = vectors["rejection_words"].split(" ", 1)[0], vectors["rejection_details"]
    assert receipts.check_rejection(code, details, keys)["words"] == vectors["rejection_words"]
    wrong = [
        lambda: receipts.check_receipt(token[:-1] + bytes([token[-1] ^ 1]), keys),
        lambda: receipts.check_receipt(bytes.fromhex(vectors["subkey_receipt"]), keys),
        lambda: receipts.check_receipt(bytes.fromhex(vectors["rejection_proof"]), keys),
        lambda: receipts.check_rejection("stale-chain-tip", details, keys),
        lambda: receipts.check_rejection(code, details.replace("4000001", "4000002"), keys),
    ]
    for check in wrong:
        try:
            check()
        except events.Wrong:
            continue
        raise AssertionError("something that is wrong passes")


def main(path):
    check_signer()
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file if " = " in line]
    vectors = dict(line.split(" = ", 1) for line in lines)
    found = made(vectors)
    for name, value in found.items():
        assert vectors[name] == value, f"{name}: {value} is made, and {vectors[name]} is written"
    given = {"authority_secret", "subkey_secret", "server", "user", "at_us", "expires_us", "height"}
    given |= {"prev_hash", "rejection_words"} | {name for name in vectors if name.startswith("template_")}
    assert set(vectors) == given | set(found), "a vector that nobody makes"
    check_readers(vectors, found)
    print(f"ok: {len(found)} vectors")


if __name__ == "__main__":
    main(sys.argv[2])
