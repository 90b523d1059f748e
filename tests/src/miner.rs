//! A miner connected to the server.

use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction, TxOut};
use jds::client::template::{MinerTemplate, Solved};
use jds::client::{ClientError, Declaration, DeclareOutcome, JdClient, SetupOptions, Token};
use jds_wire::message::{DeclareMiningJob, ProvideMissingTransactionsSuccess, PushSolution};
use jds_wire::{ClientMessage, ServerMessage};
use validation::receipt::split_details;

use crate::{Work, World};

/// Length of the full extranonce of our miners, bytes.
pub const EXTRANONCE_BYTES: usize = 16;

/// A miner with a connection in full-template mode.
#[derive(Debug)]
pub struct Miner {
    /// The connection.
    pub client: JdClient,
    /// Who it allocates tokens for.
    pub user: String,
    /// The outputs that come with tokens.
    pub outputs: Vec<TxOut>,
}

impl Miner {
    /// Connects, sets up and gets a first token.
    ///
    /// # Errors
    /// [`ClientError`]; the server closes the connection of a user who may not declare.
    pub async fn connect(world: &World, user: &str) -> Result<Self, ClientError> {
        let options = SetupOptions::default();
        let mut client =
            JdClient::connect(world.address(), Some(world.authority), &options).await?;
        let token = client.allocate_token(user).await?;
        let outputs = token.outputs().expect("a list of outputs with the token");
        Ok(Self { client, user: user.to_owned(), outputs })
    }

    /// A token that nothing was declared with.
    pub async fn token(&mut self) -> Token {
        self.client.allocate_token(&self.user).await.expect("a token")
    }

    /// The node's own template.
    pub fn template(&self, work: &Work) -> MinerTemplate {
        work.template(self.outputs.clone())
    }

    /// A template of these transactions, which pay `fees_sat` together.
    pub fn template_of(&self, work: &Work, txs: Vec<Transaction>, fees_sat: u64) -> MinerTemplate {
        work.template_of(self.outputs.clone(), txs, fees_sat)
    }

    /// Declares with a new token, supplies what is asked for, and gives the answer.
    pub async fn declare(&mut self, template: &MinerTemplate) -> DeclareOutcome {
        let token = self.token().await;
        self.declare_with(&token.bytes, template).await
    }

    /// [`Self::declare`] with any token.
    pub async fn declare_with(&mut self, token: &[u8], template: &MinerTemplate) -> DeclareOutcome {
        let (prefix, suffix) = template.halves();
        self.declare_halves(token, template, &prefix, &suffix).await
    }

    /// [`Self::declare_with`] with other bytes for the halves of the coinbase.
    pub async fn declare_halves(
        &mut self,
        token: &[u8],
        template: &MinerTemplate,
        prefix: &[u8],
        suffix: &[u8],
    ) -> DeclareOutcome {
        let wtxids = template.wtxids();
        let declaration =
            Declaration { token, version: template.version, prefix, suffix, wtxids: &wtxids };
        self.client
            .declare(declaration, |position| template.raw_tx(position))
            .await
            .expect("an answer to the declaration")
    }

    /// Sends a declaration with a new token and waits for nothing; its request id.
    pub async fn send_declaration(&mut self, template: &MinerTemplate) -> u32 {
        let token = self.token().await;
        let request_id = self.client.new_request_id();
        self.send_declaration_as(request_id, &token.bytes, template).await;
        request_id
    }

    /// [`Self::send_declaration`] with a request id and a token of the caller's choice.
    pub async fn send_declaration_as(
        &mut self,
        request_id: u32,
        token: &[u8],
        template: &MinerTemplate,
    ) {
        let (prefix, suffix) = template.halves();
        let declaration = DeclareMiningJob {
            request_id,
            mining_job_token: token,
            version: template.version,
            coinbase_tx_prefix: &prefix,
            coinbase_tx_suffix: &suffix,
            wtxids: &template.wtxids(),
            excess_data: b"",
        };
        let message = ClientMessage::DeclareMiningJob(declaration);
        self.client.send(&message).await.expect("room to send a declaration");
    }

    /// The next message, which must be ProvideMissingTransactions: request id and positions.
    pub async fn asked(&mut self) -> (u32, Vec<u16>) {
        match self.client.recv().await.expect("ProvideMissingTransactions") {
            ServerMessage::ProvideMissingTransactions(asked) => {
                (asked.request_id, asked.unknown_tx_positions)
            }
            other => panic!("expected ProvideMissingTransactions, got {other:?}"),
        }
    }

    /// Sends ProvideMissingTransactions.Success with any bytes as transactions.
    pub async fn supply(&mut self, request_id: u32, transactions: &[Vec<u8>]) {
        let supplied = ProvideMissingTransactionsSuccess {
            request_id,
            transactions: transactions.iter().map(Vec::as_slice).collect(),
        };
        let message = ClientMessage::ProvideMissingTransactionsSuccess(supplied);
        self.client.send(&message).await.expect("room to send transactions");
    }

    /// The next message, which must be the verdict on a declaration: request id and outcome (the
    /// figures in it are not measured here).
    pub async fn verdict(&mut self) -> (u32, DeclareOutcome) {
        let (missing, elapsed) = (0, Duration::ZERO);
        match self.client.recv().await.expect("a verdict") {
            ServerMessage::DeclareMiningJobSuccess(success) => {
                let new_token = success.new_mining_job_token;
                (success.request_id, DeclareOutcome::Accepted { new_token, missing, elapsed })
            }
            ServerMessage::DeclareMiningJobError(error) => {
                let (code, details) = (error.error_code.into_owned(), error.error_details);
                let outcome = DeclareOutcome::Rejected { code, details, missing, elapsed };
                (error.request_id, outcome)
            }
            other => panic!("expected a verdict, got {other:?}"),
        }
    }

    /// Mines a declared template and hands the solution in; the block that it makes.
    pub async fn solve_and_push(&mut self, work: &Work, template: &MinerTemplate) -> BlockHash {
        let solved = work.solve(template);
        self.push(&solved).await;
        solved.block.block_hash()
    }

    /// Hands a solution in.
    pub async fn push(&mut self, solved: &Solved) {
        let header = &solved.block.header;
        let solution = PushSolution {
            extranonce: &solved.extranonce,
            prev_hash: header.prev_blockhash.to_byte_array(),
            nonce: header.nonce,
            ntime: header.time,
            nbits: header.bits.to_consensus(),
            version: header.version.to_consensus() as u32,
        };
        self.client.push_solution(solution).await.expect("room to send a solution");
    }
}

/// How many transactions the server asked for on its way to accepting the template.
#[track_caller]
pub fn accepted(outcome: &DeclareOutcome) -> usize {
    match outcome {
        DeclareOutcome::Accepted { missing, .. } => *missing,
        DeclareOutcome::Rejected { code, details, .. } => {
            panic!("expected acceptance, got {code}: {details}")
        }
    }
}

/// Checks `error_code` and the reason in `error_details`; gives the latter without its proof.
#[track_caller]
pub fn rejected<'a>(outcome: &'a DeclareOutcome, code: &str, reason: &str) -> &'a str {
    match outcome {
        DeclareOutcome::Rejected { code: got, details, .. } => {
            let got_reason =
                details.split(' ').next().and_then(|pair| pair.strip_prefix("reason="));
            assert_eq!((&**got, got_reason), (code, Some(reason)), "{details}");
            split_details(details).map_or(details, |(words, _)| words)
        }
        accepted @ DeclareOutcome::Accepted { .. } => {
            panic!("expected {code} ({reason}), got {accepted:?}")
        }
    }
}
