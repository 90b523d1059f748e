//! Payloads of the events. Fields never change their meaning: readers are other programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{SubmissionState, TemplateSource};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Job declaration.
    JobDeclaration,
    /// Mining.
    Mining,
    /// Template distribution.
    TemplateDistribution,
}

/// Blocks of which nothing else was said were assembled here.
fn assembled() -> bool {
    true
}

/// Declares payload structs without repeating their derives.
macro_rules! payloads {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$field_meta:meta])+ $field:ident: $type:ty,)+ })+) => {
        $(
            $(#[$doc])+
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
            pub struct $name { $($(#[$field_meta])+ pub $field: $type,)+ }
        )+
    };
}

payloads! {
    /// A miner connected and set up its connection.
    MinerConnected {
        /// User, as far as it is known.
        user: Option<String>,
        /// Identifies the connection within this run of the server.
        connection_id: u64,
        /// Address and port of the peer.
        remote: String,
        /// What the connection is for.
        role: Role,
        /// Flags of SetupConnection.
        flags: u32,
        /// True when the miner negotiates jobs of its own.
        job_negotiation: bool,
        /// Why, where there is something to say.
        reason: Option<String>,
    }

    /// A connection ended.
    MinerDisconnected {
        /// User, as far as it is known.
        user: Option<String>,
        /// Identifies the connection within this run of the server.
        connection_id: u64,
        /// Address and port of the peer.
        remote: String,
        /// What the connection was for.
        role: Role,
        /// Flags of SetupConnection.
        flags: u32,
        /// True when the miner negotiated jobs of its own.
        job_negotiation: bool,
        /// Why it ended.
        reason: Option<String>,
    }

    /// A token was given out.
    TokenAllocated {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// Names the token; not the token itself, which is a secret.
        token_id: String,
        /// When it expires, Unix milliseconds.
        expires_at: u64,
    }

    /// A template was declared; the verdict follows.
    TemplateProposed {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// The worker that declared it: what the identity has after the first dot. Absent where it has nothing there, and before users and workers were told apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<String>,
        /// Names the template, 64 hex digits.
        template_hash: String,
        /// Transactions in the block, the coinbase included.
        tx_count: u32,
        /// Transactions that we had to ask for.
        wtxids_unknown: u32,
        /// Height of the block that it is for.
        height: u32,
        /// Size of the declaration, bytes.
        bytes: u64,
    }

    /// A template kept every rule.
    TemplateAccepted {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// The worker that declared it: what the identity has after the first dot. Absent where it has nothing there, and before users and workers were told apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<String>,
        /// Names the template, 64 hex digits.
        template_hash: String,
        /// Transactions in the block, the coinbase included.
        tx_count: u32,
        /// Fees together, satoshi; with `fees_verified` false the known ones only.
        total_fees_sat: u64,
        /// True when every fee is known.
        fees_verified: bool,
        /// Weight of the block, weight units.
        block_weight: u64,
        /// Height of the block that it is for.
        height: u32,
        /// Hash of the block before, 64 hex digits as usually printed.
        prev_hash: String,
        /// Time that the verdict took, milliseconds.
        validation_ms: f64,
        /// Accepted templates of this user for as long as totals of the user are kept, this one included. Given by the store.
        templates_accepted_total: u64,
    }

    /// A template broke a rule.
    TemplateRejected {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// The worker that declared it: what the identity has after the first dot. Absent where it has nothing there, and before users and workers were told apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<String>,
        /// Names the template, 64 hex digits, when it came so far.
        template_hash: Option<String>,
        /// Code that the client was told.
        error_code: String,
        /// Stable name of the rule.
        reason: String,
        /// Position of the offender, 0-based.
        index: Option<u64>,
        /// What the rule demands.
        expected: Option<String>,
        /// What was found.
        actual: Option<String>,
        /// Time that the verdict took, milliseconds.
        validation_ms: f64,
        /// Signature of the server over code and facts, hex: see the guide on receipts. Absent where no
        /// template was judged, and before servers signed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<String>,
    }

    /// An accepted template was withdrawn, because a node found it invalid.
    TemplateInvalidated {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// Names the template, 64 hex digits.
        template_hash: String,
        /// Name of the node.
        node: String,
        /// The node's reason.
        reason: String,
    }

    /// A custom job was set on a mining channel.
    JobNegotiated {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// Names the template, 64 hex digits; absent in coinbase-only mode.
        template_hash: Option<String>,
        /// Transactions in the block, the coinbase included, when they are known.
        tx_count: Option<u32>,
        /// Fees together, satoshi, when they are known.
        total_fees_sat: Option<u64>,
        /// Weight of the block, weight units, when it is known.
        block_weight: Option<u64>,
        /// Verdict on the template.
        validation_result: String,
        /// Channel of the job.
        channel_id: u32,
        /// The job.
        job_id: u32,
    }

    /// A share came.
    ShareSubmitted {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// Worker within the user.
        worker: String,
        /// Channel that it came on.
        channel_id: u32,
        /// Job that it is for.
        job_id: u32,
        /// True when it counts.
        accepted: bool,
        /// Why it does not count.
        error_code: Option<String>,
        /// Difficulty that it is paid for.
        difficulty: f64,
        /// Hash of the header, 64 hex digits as usually printed; empty when the job is not known.
        share_hash: String,
        /// Whose template it was mined on.
        template_source: TemplateSource,
        /// Names the miner's template, 64 hex digits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        miner_template_hash: Option<String>,
        /// Transactions of the miner's template, the coinbase included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        miner_tx_count: Option<u32>,
        /// Fees of the miner's template, satoshi.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        miner_template_fees_sat: Option<u64>,
        /// What the coinbase of the miner's template pays to the pool, satoshi.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool_payout_sat: Option<u64>,
        /// What it could have claimed, satoshi; in coinbase-only mode what it takes, unverified.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claimable_sat: Option<u64>,
        /// True on the user's first accepted share on a miner's template. Given by the store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_for_user: Option<bool>,
    }

    /// A share makes a block.
    BlockFound {
        /// User: what the identity (`USER` or `USER.WORKER`) has before its first dot.
        user: String,
        /// Hash of the block, 64 hex digits as usually printed.
        block_hash: String,
        /// Its height.
        height: u32,
        /// Whose template it was mined on.
        template_source: TemplateSource,
        /// Names the miner's template, 64 hex digits.
        miner_template_hash: Option<String>,
        /// Transactions in it, the coinbase included; 0 when they are not known.
        tx_count: u32,
        /// What its coinbase takes, satoshi.
        reward_sat: u64,
        /// True when the server knows its transactions and submits it. False in coinbase-only mode, where its miner has them: the server watches for it in the chain, and submits it once it is handed in whole.
        #[serde(default = "assembled")]
        assembled: bool,
    }

    /// A node answered to a block, or could not be asked.
    BlockSubmitted {
        /// Hash of the block, 64 hex digits as usually printed.
        block_hash: String,
        /// Name of the node.
        node: String,
        /// What became of it.
        result: SubmissionState,
        /// The node's words, where it has any.
        detail: Option<String>,
        /// From the solution to the answer, milliseconds.
        latency_ms: f64,
    }

    /// A block of ours is buried in the chain.
    BlockConfirmed {
        /// Hash of the block, 64 hex digits as usually printed.
        block_hash: String,
        /// Blocks from it to the tip, itself included.
        confirmations: u32,
    }

    /// A block of ours is not in the chain.
    BlockOrphaned {
        /// Hash of the block, 64 hex digits as usually printed.
        block_hash: String,
        /// Confirmations that it had when we last saw it in the chain.
        confirmations: u32,
    }

    /// A node or template provider changed its state.
    NodeStatus {
        /// What it is: `bitcoin_core` or `template_provider`. Null in events of before it was told.
        kind: Option<String>,
        /// Name of the node.
        node: String,
        /// Its state now.
        state: String,
        /// Height of its tip, when it is known.
        height: Option<u32>,
        /// What there is to say about it.
        detail: Option<String>,
    }

    /// The store works again after a time in which it could not write.
    StoreRecovered {
        /// Since when it could not, Unix milliseconds.
        stalled_since: u64,
        /// For how long, milliseconds.
        stalled_ms: u64,
        /// Why.
        reason: String,
        /// Batches acknowledged as volatile meanwhile.
        acknowledged_volatile: u64,
        /// Batches kept in memory and written now.
        batches_kept: u64,
        /// Batches given up for lack of memory.
        batches_lost: u64,
        /// Events in them.
        events_lost: u64,
        /// Shares given up, whether or not their batch was kept.
        shares_lost: u64,
        /// Accepted templates given up.
        templates_lost: u64,
        /// Found blocks given up.
        blocks_lost: u64,
    }

    /// The stream goes on in a new epoch: events that readers may have seen are lost.
    StreamEpochStarted {
        /// The new epoch.
        epoch: String,
        /// The epoch before.
        previous_epoch: String,
        /// Highest id that readers of the epoch before may have seen.
        previous_last_id: u64,
        /// Last id of it that is still in the log.
        kept_last_id: u64,
        /// Why.
        reason: String,
    }

    /// Events of one peer that came faster than its rate, counted instead of written.
    FloodAggregate {
        /// The peer: a user or an address.
        peer: String,
        /// Name of the event that was not written.
        kind: String,
        /// How many.
        count: u64,
        /// The first of them, Unix milliseconds.
        first_at: u64,
        /// The last of them, Unix milliseconds.
        last_at: u64,
    }

    /// The server was started: connections and channels of before are gone, whether their end was told or not.
    ServerStarted {
        /// Version of the program.
        version: String,
        /// Version of the store: how many of its migrations it has seen.
        schema: u32,
        /// The chain: `mainnet`, `testnet3`, `testnet4`, `signet` or `regtest`.
        network: String,
        /// Name of the server in its receipts, 16 hex digits.
        server_id: String,
    }
}
