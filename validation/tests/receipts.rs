//! Receipts and proofs: fixed vectors, which other programs are written against, and what must
//! not pass.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

use bitcoin::hashes::Hash;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{BlockHash, Wtxid};
use proptest::prelude::*;
use validation::declared::{Declared, TemplateHash};
use validation::receipt::{
    self, Endorsement, PROOF_BYTES, ProofFacts, RECEIPT_BYTES, Receipt, ReceiptError, ReceiptFacts,
    ReceiptKey, RejectionProof, ServerId, SigningKey, UserHash, split_details,
};
use validation::rejection::{Reason, Rejection};
use validation::{ErrorCode, WitnessRoot};

const VECTORS: &str = include_str!("vectors/receipts.txt");

/// The value of `name = value` in the file of vectors.
fn vector(name: &str) -> &'static str {
    let lines = VECTORS.lines().filter_map(|line| line.split_once(" = "));
    let mut found = lines.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = found.next().unwrap_or_else(|| panic!("there is no vector {name}"));
    assert_eq!(found.next(), None, "{name} stands once");
    value
}

fn bytes<const N: usize>(name: &str) -> [u8; N] {
    FromHex::from_hex(vector(name)).unwrap()
}

fn authority() -> SigningKey {
    SigningKey::from_bytes(&bytes("authority_secret")).unwrap()
}

fn subkey() -> SigningKey {
    SigningKey::from_bytes(&bytes("subkey_secret")).unwrap()
}

/// The template of the vectors.
struct Template {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    wtxids: Vec<Wtxid>,
}

impl Template {
    fn of_vectors() -> Self {
        let wtxids = vector("template_wtxids").split(' ');
        let wtxid = |hex| Wtxid::from_byte_array(FromHex::from_hex(hex).unwrap());
        Self {
            prefix: Vec::from_hex(vector("template_prefix")).unwrap(),
            suffix: Vec::from_hex(vector("template_suffix")).unwrap(),
            wtxids: wtxids.map(wtxid).collect(),
        }
    }

    fn declared(&self) -> Declared<'_> {
        Declared {
            version: u32::from_str_radix(vector("template_version"), 16).unwrap(),
            coinbase_prefix: &self.prefix,
            coinbase_suffix: &self.suffix,
            wtxids: &self.wtxids,
        }
    }
}

fn facts() -> ReceiptFacts {
    let template = Template::of_vectors();
    ReceiptFacts {
        server: ServerId(bytes("server")),
        accepted_at_us: vector("at_us").parse().unwrap(),
        expires_us: vector("expires_us").parse().unwrap(),
        user: UserHash::of(vector("user").as_bytes()),
        height: vector("height").parse().unwrap(),
        template_hash: TemplateHash::of(&template.declared()),
        wtxid_root: *WitnessRoot::of(&template.wtxids).as_bytes(),
        prev_hash: BlockHash::from_byte_array(bytes("prev_hash")),
    }
}

fn proof_facts() -> ProofFacts {
    let ReceiptFacts { server, accepted_at_us, user, template_hash, .. } = facts();
    let template_hash = Some(template_hash);
    ProofFacts { server, rejected_at_us: accepted_at_us, user, template_hash }
}

fn rejection() -> Rejection {
    Rejection::new(Reason::Weight).expected("at-most-4000000").actual(4_000_001)
}

#[test]
fn the_vectors_are_what_is_made() {
    let facts = facts();
    assert_eq!(facts.template_hash.to_string(), vector("template_hash"));
    assert_eq!(facts.wtxid_root.to_lower_hex_string(), vector("wtxid_root"));
    assert_eq!(facts.user.0.to_lower_hex_string(), vector("user_hash"));
    for (name, key) in [("authority", authority()), ("subkey", subkey())] {
        let public = key.public();
        assert_eq!(public.to_bytes().to_lower_hex_string(), vector(&format!("{name}_public")));
        assert_eq!(public.id().to_string(), vector(&format!("{name}_key_id")));
        let receipt = facts.sign(&key, &[0; 32]);
        assert_eq!(receipt.encode().to_lower_hex_string(), vector(&format!("{name}_receipt")));
    }
    let endorsement = authority().endorse(subkey().public());
    assert_eq!(endorsement.0.to_lower_hex_string(), vector("subkey_endorsement"));
    let mut rejection = rejection();
    assert_eq!(rejection.words(), vector("rejection_words"));
    let proof = proof_facts().sign(&rejection.words(), &authority(), &[0; 32]);
    assert_eq!(proof.to_string(), vector("rejection_proof"));
    rejection.proof = Some(Box::new(proof));
    assert_eq!(rejection.details(), vector("rejection_details"));
}

#[test]
fn a_receipt_fits_a_token_and_is_checked_with_the_public_key_alone() {
    let bytes = Vec::from_hex(vector("authority_receipt")).unwrap();
    assert_eq!(bytes.len(), RECEIPT_BYTES);
    const { assert!(RECEIPT_BYTES <= 255, "B0_255") };
    let key = ReceiptKey::from_bytes(&bytes_of("authority_public")).unwrap();
    assert_eq!(receipt::verify(&bytes, &[key]), Ok(facts()));
    let other = *subkey().public();
    assert_eq!(receipt::verify(&bytes, &[other]), Err(ReceiptError::OtherKey(key.id())));
    assert_eq!(receipt::verify(&bytes, &[other, key]), Ok(facts()), "an old key among the offered");
}

fn bytes_of(name: &str) -> [u8; 32] {
    bytes(name)
}

#[test]
fn a_receipt_is_about_one_template() {
    let receipt = facts().sign(&authority(), &[1; 32]);
    let mut template = Template::of_vectors();
    assert_eq!(receipt.check_template(&template.declared()), Ok(()));
    template.wtxids.swap(0, 1);
    let template_hash = TemplateHash::of(&template.declared());
    assert_eq!(
        receipt.check_template(&template.declared()),
        Err(ReceiptError::OtherTemplate {
            receipt: facts().template_hash,
            template: template_hash
        })
    );
}

#[test]
fn an_endorsement_is_of_one_key_by_one_key() {
    let (authority, subkey) = (authority(), subkey());
    let endorsement = Endorsement(bytes("subkey_endorsement"));
    assert_eq!(endorsement.verify(authority.public(), subkey.public()), Ok(()));
    assert!(endorsement.verify(subkey.public(), authority.public()).is_err());
    assert!(endorsement.verify(authority.public(), authority.public()).is_err());
    for bit in 0..64 * 8 {
        let mut forged = endorsement;
        forged.0[bit / 8] ^= 1 << (bit % 8);
        assert!(forged.verify(authority.public(), subkey.public()).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_receipt_is_noticed() {
    let key = *authority().public();
    let receipt = facts().sign(&authority(), &[2; 32]).encode();
    for bit in 0..receipt.len() * 8 {
        let mut forged = receipt.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(receipt::verify(&forged, &[key]).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_proof_or_its_words_is_noticed() {
    let (key, words) = (*authority().public(), rejection().words());
    let proof = proof_facts().sign(&words, &authority(), &[2; 32]);
    assert_eq!(proof.encode().len(), PROOF_BYTES);
    assert_eq!(proof.verify(&words, &[key]), Ok(&proof_facts()));
    for bit in 0..PROOF_BYTES * 8 {
        let mut forged = proof.encode();
        forged[bit / 8] ^= 1 << (bit % 8);
        let checked =
            RejectionProof::decode(&forged).and_then(|p| p.verify(&words, &[key]).copied());
        assert!(checked.is_err(), "bit {bit}");
    }
    for place in 0..words.len() {
        let mut other = words.clone().into_bytes();
        other[place] ^= 1;
        let other = String::from_utf8(other).unwrap();
        assert_eq!(proof.verify(&other, &[key]), Err(ReceiptError::Signature), "{other}");
    }
}

#[test]
fn one_kind_never_passes_as_another() {
    let (key, words) = (authority(), rejection().words());
    let receipt = facts().sign(&key, &[0; 32]).encode();
    let proof = proof_facts().sign(&words, &key, &[0; 32]).encode();
    assert_eq!(Receipt::decode(&proof), Err(ReceiptError::Unknown { version: 1, kind: b'R' }));
    assert_eq!(
        RejectionProof::decode(&receipt).err(),
        Some(ReceiptError::Unknown { version: 1, kind: b'A' })
    );
    // What a Noise certificate is signed over: a SHA-256 without a tag. Nor is it the other's.
    let body = &receipt[..RECEIPT_BYTES - 64];
    let plain = bitcoin::hashes::sha256::Hash::hash(body).to_byte_array();
    let tagged = receipt::tagged_hash("sv2-jd/receipt/1", &[body]);
    let rejected = receipt::tagged_hash("sv2-jd/rejection/1", &[body]);
    assert!(plain != tagged && rejected != tagged);
}

#[test]
fn a_proof_stands_at_the_end_of_the_details() {
    let mut rejection = rejection();
    assert_eq!(split_details(&rejection.details()), None);
    let proof = proof_facts().sign(&rejection.words(), &authority(), &[0; 32]);
    rejection.proof = Some(Box::new(proof));
    let details = rejection.details();
    let (words, hex) = split_details(&details).unwrap();
    let read = RejectionProof::from_hex(hex).unwrap();
    let words = format!("{} {words}", ErrorCode::InvalidJob);
    assert_eq!(read.verify(&words, &[*authority().public()]), Ok(&proof_facts()));
    assert_eq!(rejection.to_string(), words, "the log is spared the proof");
    // Of the longest values that there are.
    let long = "\u{10ffff}".repeat(1_000);
    let longest = Rejection { proof: Some(Box::new(proof)), ..Rejection::new(Reason::Internal) }
        .at(usize::MAX)
        .expected(&long)
        .actual(&long);
    assert!(longest.details().len() < 2_500, "{}", longest.details().len());
}

/// Other programs are written from the guide.
#[test]
fn the_guide_has_the_vectors_and_the_layouts() {
    let guide = include_str!("../../guides/src/receipts.md");
    assert!(
        guide.contains(VECTORS),
        "guides/src/receipts.md does not hold the vectors as they are"
    );
    for (name, size) in [("Receipt", RECEIPT_BYTES), ("Proof of a rejection", PROOF_BYTES)] {
        let (_, table) = guide.split_once(&format!("**{name}**, {size} bytes")).unwrap();
        let (table, _) = table.split_once("\n\n**").unwrap();
        let mut end = 0;
        for row in table.lines().filter(|row| row.starts_with("| ")).skip(1) {
            let mut cells = row.split('|').skip(1).map(|cell| cell.trim().parse::<usize>());
            assert_eq!(cells.next().unwrap(), Ok(end), "{row}");
            end += cells.next().unwrap().unwrap();
        }
        assert_eq!(end, size, "{name}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back(
        server: [u8; 8], accepted_at_us: u64, expires_us: u64, user: [u8; 16], height: u32,
        template: [u8; 32], wtxid_root: [u8; 32], prev: [u8; 32], aux: [u8; 32],
    ) {
        let facts = ReceiptFacts {
            server: ServerId(server),
            accepted_at_us,
            expires_us,
            user: UserHash(user),
            height,
            template_hash: TemplateHash::from_bytes(template),
            wtxid_root,
            prev_hash: BlockHash::from_byte_array(prev),
        };
        let receipt = facts.sign(&authority(), &aux);
        prop_assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        prop_assert_eq!(receipt.verify(&[*authority().public()]), Ok(&facts));
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let keys = [*authority().public()];
        prop_assert!(receipt::verify(&bytes, &keys).is_err());
        prop_assert!(RejectionProof::decode(&bytes).and_then(|p| p.verify("", &keys).copied()).is_err());
    }

    #[test]
    fn every_size_but_one_is_refused(length in 0..300_usize) {
        let mut bytes = facts().sign(&authority(), &[0; 32]).encode();
        bytes.resize(length, 7);
        let refused = receipt::verify(&bytes, &[*authority().public()]).is_err();
        prop_assert_eq!(refused, length != RECEIPT_BYTES);
    }
}

/// A receipt is about a user, whatever worker declared; an earlier one about an identity.
#[test]
fn a_user_hash_is_of_all_identities_of_its_user() {
    let user = UserHash::of(b"alice");
    assert!(
        [&b"alice"[..], b"alice.rig1", b"alice.rig.2", b"alice."].iter().all(|id| user.is_of(id))
    );
    assert!(![&b"alice2"[..], b"", b".alice", b"bob.alice"].iter().any(|id| user.is_of(id)));
    let earlier = UserHash::of(b"alice.rig1");
    assert!(earlier.is_of(b"alice.rig1"));
    assert!(![&b"alice"[..], b"alice.rig2"].iter().any(|id| earlier.is_of(id)));
}
