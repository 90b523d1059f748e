//! Custom jobs (SV2 5.3.18): the miner's own template on a channel.

use binary_sv2::{Seq0255Owned, U256Owned};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget};
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, SetCustomMiningJobOwned,
};
use validation::CoinbaseParts;
use validation::merkle::branch_of_first;

use super::channel::{Job, Work};
use super::{Channel, MiningClient};
use crate::client::ClientError;
use crate::client::template::MinerTemplate;

impl MiningClient {
    /// Sets a custom job, with a request id of this connection, and waits for the answer: the job's
    /// id, or the error code. What comes meanwhile is put by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_custom_job(
        &mut self,
        mut job: SetCustomMiningJobOwned,
    ) -> Result<Result<u32, String>, ClientError> {
        let request_id = self.request_id();
        job.request_id = request_id;
        self.send(&MiningClientMessage::SetCustomMiningJob(job)).await?;
        self.wait("SetCustomMiningJob.Success", |message| match message {
            MiningServerMessage::SetCustomMiningJobSuccess(success)
                if success.request_id == request_id =>
            {
                Some(Ok(success.job_id))
            }
            MiningServerMessage::SetCustomMiningJobError(error)
                if error.request_id == request_id =>
            {
                Some(Err(String::from_utf8_lossy(error.error_code.as_bytes()).into_owned()))
            }
            _ => None,
        })
        .await
    }
}

impl Channel {
    /// Bytes of the full extranonce: what a template for this channel has to leave room for.
    pub fn extranonce_bytes(&self) -> usize {
        self.prefix.len() + self.rolled_bytes
    }

    /// SetCustomMiningJob for a template on this channel, request id 0. `min_ntime`: Unix seconds.
    ///
    /// # Errors
    /// [`ClientError::Template`] when the template's halves are no coinbase, or one that the message
    /// can not carry.
    pub fn custom_job(
        &self,
        token: &[u8],
        template: &MinerTemplate,
        prev_hash: BlockHash,
        min_ntime: u32,
        bits: CompactTarget,
    ) -> Result<SetCustomMiningJobOwned, ClientError> {
        let unfit = |_| ClientError::Template("it does not fit a message".to_owned());
        let parts = parts_of(template)?;
        let txids = template.txs.iter().map(|tx| tx.compute_txid().to_byte_array());
        let path = branch_of_first(txids).into_iter().map(U256Owned::from).collect();
        Ok(SetCustomMiningJobOwned {
            channel_id: self.id,
            request_id: 0,
            token: token.try_into().map_err(unfit)?,
            version: template.version,
            prev_hash: prev_hash.to_byte_array().into(),
            min_ntime,
            nbits: bits.to_consensus(),
            coinbase_tx_version: parts.tx_version() as u32,
            coinbase_prefix: parts.script_sig_prefix().try_into().map_err(unfit)?,
            coinbase_tx_input_n_sequence: parts.sequence().0,
            coinbase_tx_outputs: serialize(&template.coinbase.output).try_into().map_err(unfit)?,
            coinbase_tx_locktime: parts.lock_time().to_consensus_u32(),
            merkle_path: Seq0255Owned::new(path).map_err(unfit)?,
        })
    }

    /// Works on a custom job from now on, whatever the server gave this channel before.
    ///
    /// # Errors
    /// [`ClientError::Template`] when the template's halves are no coinbase.
    pub fn work_on(
        &mut self,
        job_id: u32,
        job: &SetCustomMiningJobOwned,
        template: &MinerTemplate,
    ) -> Result<(), ClientError> {
        let parts = parts_of(template)?;
        let work = Work::Extended {
            prefix: parts.stripped_prefix().to_vec(),
            suffix: parts.stripped_suffix().concat(),
            path: job.merkle_path.iter().map(|hash| hash.to_array()).collect(),
        };
        let (version, min_ntime) = (job.version, job.min_ntime);
        let bits = CompactTarget::from_consensus(job.nbits);
        self.job = Some(Job { id: job_id, version, min_ntime, work });
        self.prev_hash = Some((job.prev_hash.to_array(), bits));
        Ok(())
    }
}

fn parts_of(template: &MinerTemplate) -> Result<CoinbaseParts, ClientError> {
    let (prefix, suffix) = template.halves();
    CoinbaseParts::parse(&prefix, &suffix)
        .map_err(|rejection| ClientError::Template(rejection.details()))
}
