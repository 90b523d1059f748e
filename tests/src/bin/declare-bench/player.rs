//! A client with a template that it declares again and again, never twice the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::bail;
use bitcoin::ScriptBuf;
use bitcoin::consensus::encode::deserialize;
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds_tests::bench::{Material, Target};

/// Length of the full extranonce, bytes.
const EXTRANONCE_BYTES: usize = 16;
/// Length of the tag in front of the extranonce by which declarations differ, bytes.
const TAG_BYTES: usize = 8;

/// One client of one server.
#[derive(Debug)]
pub(crate) struct Player {
    client: JdClient,
    user: String,
    template: MinerTemplate,
    wtxids: Arc<[[u8; 32]]>,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

/// How one declaration went; it was accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Declared {
    /// From the first byte encoded to the answer decoded.
    pub(crate) elapsed: Duration,
    /// Transactions that the server asked for.
    pub(crate) missing: usize,
}

impl Player {
    /// Connects, and makes a template that pays what the server wants paid.
    pub(crate) async fn connect(
        target: &Target,
        user: String,
        node: &Material,
    ) -> anyhow::Result<Self> {
        let options = SetupOptions::default();
        let mut client = JdClient::connect(target.address, target.key, &options).await?;
        let token = client.allocate_token(&user).await?;
        let txs = node.txs.iter().map(|tx| deserialize(tx.raw())).collect::<Result<_, _>>()?;
        let value = node.coinbase_value_sat;
        let mut template =
            MinerTemplate::new(node.height, value, token.outputs()?, txs, EXTRANONCE_BYTES);
        if let Some(input) = template.coinbase.input.first_mut() {
            let mut script = input.script_sig.to_bytes();
            // A push of the tag, before the push of the extranonce.
            let at = script.len().saturating_sub(EXTRANONCE_BYTES + 1);
            script.splice(at..at, [TAG_BYTES as u8; 1 + TAG_BYTES]);
            input.script_sig = ScriptBuf::from_bytes(script);
        }
        let (prefix, suffix) = template.halves();
        let wtxids = node.txs.iter().map(|tx| *tx.wtxid().as_ref()).collect();
        Ok(Self { client, user, template, wtxids, prefix, suffix })
    }

    /// Declares what nobody declared before.
    pub(crate) async fn declare(&mut self) -> anyhow::Result<Declared> {
        static DECLARATIONS: AtomicU32 = AtomicU32::new(0);
        let number = DECLARATIONS.fetch_add(1, Ordering::Relaxed);
        let tag = (u64::from(std::process::id()) << 32 | u64::from(number)).to_be_bytes();
        let end = self.prefix.len().saturating_sub(1);
        if let Some(place) = self.prefix.get_mut(end.saturating_sub(TAG_BYTES)..end) {
            place.copy_from_slice(&tag);
        }
        let token = self.client.allocate_token(&self.user).await?;
        let declaration = Declaration {
            token: &token.bytes,
            version: self.template.version,
            prefix: &self.prefix,
            suffix: &self.suffix,
            wtxids: &self.wtxids,
        };
        let template = &self.template;
        match self.client.declare(declaration, |position| template.raw_tx(position)).await? {
            DeclareOutcome::Accepted { missing, elapsed, .. } => Ok(Declared { elapsed, missing }),
            DeclareOutcome::Rejected { code, details, .. } => {
                bail!("a declaration was rejected: {code} {details}")
            }
        }
    }
}
