//! `jds receipt`: checks a signed verdict offline, with the public key alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bitcoin::Wtxid;
use bitcoin::hex::{DisplayHex, FromHex};
use clap::{Args, Subcommand};
use config::PublicKey;
use serde::Deserialize;
use validation::declared::Declared;
use validation::receipt::{
    Endorsement, Receipt, ReceiptKey, RejectionProof, UserHash, split_details,
};
use validation::rejection::Reason;

/// A description of a template has 64 hex digits and some words for each transaction.
const TEMPLATE_FILE_BYTES_MAX: u64 = 64_000_000;

/// A list of keys.
const KEYS_FILE_BYTES_MAX: u64 = 1_000_000;

const AFTER_HELP: &str = "\
TOKEN is the mining job token of an accepted declaration in hex, or the error details of a rejected
one, as text that ends with proof=....

Examples:
  jds receipt verify 0141... --authority 9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72
  jds receipt verify 'reason=weight ... proof=0152...' --authority 9auq...
  curl -s http://pool.example:9332/v1/receipts/keys > keys.json
  jds receipt verify 0141... --authority 9auq... --keys keys.json   signed with another key
  curl -s http://127.0.0.1:9332/v1/templates/HASH > template.json
  jds receipt verify 0141... --authority 9auq... --template template.json";

/// `jds receipt`.
#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// Check a receipt or the proof of a rejection, and print what it says.
    #[command(after_help = AFTER_HELP)]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The receipt in hex, or the error details of a rejection.
    token: String,
    #[command(flatten)]
    keys: Keys,
    /// The template, as GET /v1/templates/HASH describes it: is the receipt about this one?
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The user identity: is it about this user?
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// Whose signatures count.
#[derive(Debug, Args)]
pub(super) struct Keys {
    /// The server's authority key, as miners pin it.
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    pub(super) authority: PublicKey,
    /// Further keys, as GET /v1/receipts/keys gives them; those count that the authority key vouches
    /// for.
    #[arg(long, value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,
}

pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text.trim()).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct KeysFile {
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
struct KeyEntry {
    public_key: String,
    endorsement: Option<String>,
}

impl Keys {
    /// The authority key, and what it vouches for.
    pub(super) fn read(&self) -> anyhow::Result<Vec<ReceiptKey>> {
        let authority = receipt_key(self.authority)?;
        let mut keys = vec![authority];
        let Some(path) = &self.keys else { return Ok(keys) };
        let text = read(path, KEYS_FILE_BYTES_MAX)?;
        let file: KeysFile = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a list of keys", path.display()))?;
        for entry in file.keys {
            let key = PublicKey::parse(&entry.public_key)
                .with_context(|| format!("{}: a key", path.display()))?;
            let key = receipt_key(key)?;
            if key == authority {
                continue;
            }
            let word = entry.endorsement.and_then(|hex| <[u8; 64]>::from_hex(&hex).ok());
            let word = word.with_context(|| {
                format!("{}: the key {} has no endorsement", path.display(), key.id())
            })?;
            Endorsement(word).verify(&authority, &key)?;
            keys.push(key);
        }
        Ok(keys)
    }
}

/// The keys of a server's configuration.
pub(super) fn configured(config: &config::Checked) -> anyhow::Result<Vec<ReceiptKey>> {
    let subkey = config.receipts.key.as_ref().map(|(_, key)| key.public_key());
    let retired = config.receipts.retired_keys.iter().copied();
    let keys = std::iter::once(config.authority.public_key).chain(subkey).chain(retired);
    keys.map(receipt_key).collect()
}

pub(super) fn receipt_key(key: PublicKey) -> anyhow::Result<ReceiptKey> {
    ReceiptKey::from_bytes(&key.to_bytes()).context("the key is not on secp256k1")
}

/// Runs the command.
pub(super) fn run(command: &ReceiptCommand) -> anyhow::Result<()> {
    let ReceiptCommand::Verify(verify) = command;
    let keys = verify.keys.read()?;
    let token = verify.token.trim();
    match split_details(token) {
        Some((words, proof)) => verify.rejection(words, proof, &keys),
        None => verify.receipt(token, &keys),
    }
}

impl Verify {
    fn receipt(&self, hex: &str, keys: &[ReceiptKey]) -> anyhow::Result<()> {
        let bytes = Vec::from_hex(hex).context("the token is not hex")?;
        let receipt = Receipt::decode(&bytes).context("the receipt")?;
        let facts = receipt.verify(keys).context("the receipt")?;
        self.check_user(facts.user)?;
        println!("verdict        accepted");
        println!("template_hash  {}", facts.template_hash);
        println!("height         {}", facts.height);
        println!("prev_hash      {}", facts.prev_hash);
        println!("wtxid_root     {}", facts.wtxid_root.as_hex());
        println!("user_hash      {}", facts.user.0.as_hex());
        println!("accepted_at_us {}", facts.accepted_at_us);
        println!("expires_us     {}", facts.expires_us);
        println!("server_id      {}", facts.server.0.as_hex());
        println!("key_id         {}", receipt.key_id());
        if let Some(path) = &self.template {
            let template = Template::read(path)?;
            receipt.check_template(&template.declared()).context("the receipt")?;
            println!("template       the one in {}", path.display());
        }
        println!("ok: signed with that key");
        Ok(())
    }

    fn rejection(&self, words: &str, proof: &str, keys: &[ReceiptKey]) -> anyhow::Result<()> {
        let proof = RejectionProof::from_hex(proof).context("the proof")?;
        let words = with_code(words)?;
        let facts = proof.verify(&words, keys).context("the proof")?;
        self.check_user(facts.user)?;
        println!("verdict        rejected");
        println!("words          {words}");
        match facts.template_hash {
            Some(hash) => println!("template_hash  {hash}"),
            None => println!("template_hash  none: it was refused before it had one"),
        }
        println!("user_hash      {}", facts.user.0.as_hex());
        println!("rejected_at_us {}", facts.rejected_at_us);
        println!("server_id      {}", facts.server.0.as_hex());
        println!("key_id         {}", proof.key_id());
        if let Some(path) = &self.template {
            let template = Template::read(path)?;
            let hash = validation::TemplateHash::of(&template.declared());
            ensure!(
                facts.template_hash == Some(hash),
                "the proof is not about the template {hash} in {}",
                path.display()
            );
            println!("template       the one in {}", path.display());
        }
        println!("ok: signed with that key");
        Ok(())
    }

    fn check_user(&self, found: UserHash) -> anyhow::Result<()> {
        match &self.user {
            Some(user) if !found.is_of(user.as_bytes()) => {
                bail!("it is not about the user {user:?}")
            }
            _ => Ok(()),
        }
    }
}

/// The signed words begin with the code, which the client gets in a field of its own: here it may
/// stand in front, or follows from the reason.
fn with_code(words: &str) -> anyhow::Result<String> {
    let Some(rest) = words.strip_prefix("reason=") else { return Ok(words.to_owned()) };
    let name = rest.split(' ').next().unwrap_or_default();
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name);
    let reason = reason.with_context(|| format!("the reason {name:?} is not known here"))?;
    Ok(format!("{} {words}", reason.code()))
}

#[derive(Deserialize)]
struct TemplateFile {
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    version: u32,
    coinbase: Coinbase,
    transactions: Option<Vec<Tx>>,
}

#[derive(Deserialize)]
struct Coinbase {
    prefix_hex: String,
    suffix_hex: String,
}

#[derive(Deserialize)]
struct Tx {
    wtxid: Wtxid,
}

/// A template out of a file.
struct Template {
    version: u32,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    wtxids: Vec<Wtxid>,
}

impl Template {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("{} is not a template as the API describes one", path.display());
        let text = read(path, TEMPLATE_FILE_BYTES_MAX)?;
        let file: TemplateFile = serde_json::from_slice(&text).with_context(what)?;
        let content = file.content.context("its `content` is not kept").with_context(what)?;
        let txs =
            content.transactions.context("its transactions are not kept").with_context(what)?;
        Ok(Self {
            version: content.version,
            prefix: Vec::from_hex(&content.coinbase.prefix_hex).with_context(what)?,
            suffix: Vec::from_hex(&content.coinbase.suffix_hex).with_context(what)?,
            wtxids: txs.into_iter().map(|tx| tx.wtxid).collect(),
        })
    }

    fn declared(&self) -> Declared<'_> {
        Declared {
            version: self.version,
            coinbase_prefix: &self.prefix,
            coinbase_suffix: &self.suffix,
            wtxids: &self.wtxids,
        }
    }
}

fn read(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let what = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(what)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).with_context(what)?;
    ensure!(bytes.len() as u64 <= bytes_max, "{} has more than {bytes_max} bytes", path.display());
    Ok(bytes)
}
