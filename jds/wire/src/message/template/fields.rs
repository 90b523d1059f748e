//! The fields of the messages of template distribution, in their order on the wire.
#![deny(clippy::indexing_slicing)]

use super::{
    CoinbaseOutputConstraints, NewTemplate, RequestTransactionData, RequestTransactionDataError,
    RequestTransactionDataSuccess, SetNewPrevHash, SubmitSolution,
};
use crate::codec::{Reader, Writer};
use crate::message::{
    EncodeError, MessageError,
    constants::{
        MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS, MESSAGE_TYPE_NEW_TEMPLATE,
        MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR,
        MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS, MESSAGE_TYPE_SET_NEW_PREV_HASH,
        MESSAGE_TYPE_SUBMIT_SOLUTION,
    },
    kind::Kind,
    server::code,
};

impl Kind<'_> for CoinbaseOutputConstraints {
    const NAME: &'static str = "CoinbaseOutputConstraints";
    const MSG_TYPE: u8 = MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            max_additional_size: reader.u32("coinbase_output_max_additional_size")?,
            max_additional_sigops: reader.u16("coinbase_output_max_additional_sigops")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 6);
        writer.u32(self.max_additional_size);
        writer.u16(self.max_additional_sigops);
        Ok(writer.into_payload())
    }
}

impl<'a> Kind<'a> for NewTemplate<'a> {
    const NAME: &'static str = "NewTemplate";
    const MSG_TYPE: u8 = MESSAGE_TYPE_NEW_TEMPLATE;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            future_template: reader.bool("future_template")?,
            version: reader.u32("version")?,
            coinbase_tx_version: reader.u32("coinbase_tx_version")?,
            coinbase_prefix: reader.b0_255("coinbase_prefix")?,
            coinbase_tx_input_sequence: reader.u32("coinbase_tx_input_sequence")?,
            coinbase_tx_value_remaining_sat: reader.u64("coinbase_tx_value_remaining")?,
            coinbase_tx_outputs_count: reader.u32("coinbase_tx_outputs_count")?,
            coinbase_tx_outputs: reader.b0_64k("coinbase_tx_outputs")?,
            coinbase_tx_locktime: reader.u32("coinbase_tx_locktime")?,
            merkle_path: reader.u256_list_255("merkle_path")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let capacity = 41
            + self.coinbase_prefix.len()
            + self.coinbase_tx_outputs.len()
            + self.merkle_path.as_flattened().len();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u64(self.template_id);
        writer.bool(self.future_template);
        writer.u32(self.version);
        writer.u32(self.coinbase_tx_version);
        writer.b0_255("coinbase_prefix", self.coinbase_prefix)?;
        writer.u32(self.coinbase_tx_input_sequence);
        writer.u64(self.coinbase_tx_value_remaining_sat);
        writer.u32(self.coinbase_tx_outputs_count);
        writer.b0_64k("coinbase_tx_outputs", self.coinbase_tx_outputs)?;
        writer.u32(self.coinbase_tx_locktime);
        writer.u256_list_255("merkle_path", self.merkle_path)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for SetNewPrevHash {
    const NAME: &'static str = "SetNewPrevHash";
    const MSG_TYPE: u8 = MESSAGE_TYPE_SET_NEW_PREV_HASH;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            prev_hash: reader.u256("prev_hash")?,
            header_timestamp: reader.u32("header_timestamp")?,
            n_bits: reader.u32("n_bits")?,
            target: reader.u256("target")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 80);
        writer.u64(self.template_id);
        writer.u256(&self.prev_hash);
        writer.u32(self.header_timestamp);
        writer.u32(self.n_bits);
        writer.u256(&self.target);
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for RequestTransactionData {
    const NAME: &'static str = "RequestTransactionData";
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_TRANSACTION_DATA;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self { template_id: reader.u64("template_id")? };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 8);
        writer.u64(self.template_id);
        Ok(writer.into_payload())
    }
}

impl<'a> Kind<'a> for RequestTransactionDataSuccess<'a> {
    const NAME: &'static str = "RequestTransactionData.Success";
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            excess_data: reader.b0_64k("excess_data")?,
            transactions: reader.b0_16m_list("transaction_list")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let transactions = self.transactions.iter().map(|transaction| transaction.len() + 3);
        let capacity = 12 + self.excess_data.len() + transactions.sum::<usize>();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u64(self.template_id);
        writer.b0_64k("excess_data", self.excess_data)?;
        writer.b0_16m_list("transaction_list", &self.transactions)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for RequestTransactionDataError {
    const NAME: &'static str = "RequestTransactionData.Error";
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            error_code: code(Self::NAME, "error_code", reader.b0_255("error_code")?)?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 9 + self.error_code.len());
        writer.u64(self.template_id);
        writer.b0_255("error_code", self.error_code.as_bytes())?;
        Ok(writer.into_payload())
    }
}

impl<'a> Kind<'a> for SubmitSolution<'a> {
    const NAME: &'static str = "SubmitSolution";
    const MSG_TYPE: u8 = MESSAGE_TYPE_SUBMIT_SOLUTION;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            version: reader.u32("version")?,
            header_timestamp: reader.u32("header_timestamp")?,
            header_nonce: reader.u32("header_nonce")?,
            coinbase_tx: reader.b0_64k("coinbase_tx")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 22 + self.coinbase_tx.len());
        writer.u64(self.template_id);
        writer.u32(self.version);
        writer.u32(self.header_timestamp);
        writer.u32(self.header_nonce);
        writer.b0_64k("coinbase_tx", self.coinbase_tx)?;
        Ok(writer.into_payload())
    }
}
