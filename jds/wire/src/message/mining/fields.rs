//! The fields of the messages of mining, by the codec of the protocol crates.
#![deny(clippy::indexing_slicing)]

use binary_sv2::{GetSize, Serialize};
use common_messages_sv2 as common;
use mining_sv2 as sv2;

use super::{EXTENSION_TYPE_WORKER as WORKER_EXTENSION, ExtendedShare, WORKER_BYTES_MAX};
use crate::codec::{finish, tlv_field};
use crate::frame::PAYLOAD_BYTES_MAX;
use crate::message::{EncodeError, MessageError, kind::Kind};
use extensions_sv2::TLV_FIELD_TYPE_USER_IDENTITY as WORKER_FIELD;

/// Takes the fields of a message off a payload; what follows them. A copy is what the codec wants.
macro_rules! decode {
    ($borrowed:ty, $name:expr, $payload:expr) => {{
        let mut copy = $payload.to_vec();
        let decoded = binary_sv2::from_bytes::<$borrowed>(&mut copy);
        let message = decoded.map_err(|error| MessageError::Malformed {
            message: $name,
            detail: format!("{error:?}"),
        })?;
        let rest = $payload.get(message.get_size()..).unwrap_or_default();
        (message.into_owned(), rest)
    }};
}

fn encode(message: &'static str, fields: impl Serialize + GetSize) -> Result<Vec<u8>, EncodeError> {
    let actual = fields.get_size();
    // Every field of these types fits its length already, so only the whole can be too long.
    binary_sv2::to_bytes(fields)
        .ok()
        .filter(|payload| payload.len() <= PAYLOAD_BYTES_MAX)
        .ok_or(EncodeError { message, field: "payload", actual, max: PAYLOAD_BYTES_MAX })
}

macro_rules! kinds {
    ($($owned:ty, $borrowed:ty, $name:literal, $msg_type:expr, $channel_msg:expr;)+) => {$(
        impl Kind<'_> for $owned {
            const NAME: &'static str = $name;
            const MSG_TYPE: u8 = $msg_type;
            const CHANNEL_MSG: bool = $channel_msg;

            fn decode(payload: &[u8]) -> Result<Self, MessageError> {
                let (message, rest) = decode!($borrowed, $name, payload);
                finish($name, rest).map(|()| message)
            }

            fn encode(&self) -> Result<Vec<u8>, EncodeError> {
                encode($name, self.clone())
            }
        }
    )+};
}

kinds! {
    sv2::OpenStandardMiningChannelOwned, sv2::OpenStandardMiningChannel<'_>, "OpenStandardMiningChannel",
        sv2::MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL, sv2::CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL;
    sv2::OpenStandardMiningChannelSuccessOwned, sv2::OpenStandardMiningChannelSuccess<'_>, "OpenStandardMiningChannel.Success",
        sv2::MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL_SUCCESS, sv2::CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL_SUCCESS;
    sv2::OpenExtendedMiningChannelOwned, sv2::OpenExtendedMiningChannel<'_>, "OpenExtendedMiningChannel",
        sv2::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL, sv2::CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL;
    sv2::OpenExtendedMiningChannelSuccessOwned, sv2::OpenExtendedMiningChannelSuccess<'_>, "OpenExtendedMiningChannel.Success",
        sv2::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS, sv2::CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS;
    sv2::OpenMiningChannelErrorOwned, sv2::OpenMiningChannelError<'_>, "OpenMiningChannel.Error",
        sv2::MESSAGE_TYPE_OPEN_MINING_CHANNEL_ERROR, sv2::CHANNEL_BIT_OPEN_MINING_CHANNEL_ERROR;
    sv2::UpdateChannelOwned, sv2::UpdateChannel<'_>, "UpdateChannel",
        sv2::MESSAGE_TYPE_UPDATE_CHANNEL, sv2::CHANNEL_BIT_UPDATE_CHANNEL;
    sv2::UpdateChannelErrorOwned, sv2::UpdateChannelError<'_>, "UpdateChannel.Error",
        sv2::MESSAGE_TYPE_UPDATE_CHANNEL_ERROR, sv2::CHANNEL_BIT_UPDATE_CHANNEL_ERROR;
    sv2::CloseChannelOwned, sv2::CloseChannel<'_>, "CloseChannel",
        sv2::MESSAGE_TYPE_CLOSE_CHANNEL, sv2::CHANNEL_BIT_CLOSE_CHANNEL;
    sv2::SetExtranoncePrefixOwned, sv2::SetExtranoncePrefix<'_>, "SetExtranoncePrefix",
        sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX, sv2::CHANNEL_BIT_SET_EXTRANONCE_PREFIX;
    sv2::SubmitSharesStandardOwned, sv2::SubmitSharesStandard, "SubmitSharesStandard",
        sv2::MESSAGE_TYPE_SUBMIT_SHARES_STANDARD, sv2::CHANNEL_BIT_SUBMIT_SHARES_STANDARD;
    sv2::SubmitSharesSuccessOwned, sv2::SubmitSharesSuccess, "SubmitShares.Success",
        sv2::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS, sv2::CHANNEL_BIT_SUBMIT_SHARES_SUCCESS;
    sv2::SubmitSharesErrorOwned, sv2::SubmitSharesError<'_>, "SubmitShares.Error",
        sv2::MESSAGE_TYPE_SUBMIT_SHARES_ERROR, sv2::CHANNEL_BIT_SUBMIT_SHARES_ERROR;
    sv2::NewMiningJobOwned, sv2::NewMiningJob<'_>, "NewMiningJob",
        sv2::MESSAGE_TYPE_NEW_MINING_JOB, sv2::CHANNEL_BIT_NEW_MINING_JOB;
    sv2::NewExtendedMiningJobOwned, sv2::NewExtendedMiningJob<'_>, "NewExtendedMiningJob",
        sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB, sv2::CHANNEL_BIT_NEW_EXTENDED_MINING_JOB;
    sv2::SetNewPrevHashOwned, sv2::SetNewPrevHash<'_>, "SetNewPrevHash",
        sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH, sv2::CHANNEL_BIT_MINING_SET_NEW_PREV_HASH;
    sv2::SetCustomMiningJobOwned, sv2::SetCustomMiningJob<'_>, "SetCustomMiningJob",
        sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB, sv2::CHANNEL_BIT_SET_CUSTOM_MINING_JOB;
    sv2::SetCustomMiningJobSuccessOwned, sv2::SetCustomMiningJobSuccess, "SetCustomMiningJob.Success",
        sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_SUCCESS, sv2::CHANNEL_BIT_SET_CUSTOM_MINING_JOB_SUCCESS;
    sv2::SetCustomMiningJobErrorOwned, sv2::SetCustomMiningJobError<'_>, "SetCustomMiningJob.Error",
        sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_ERROR, sv2::CHANNEL_BIT_SET_CUSTOM_MINING_JOB_ERROR;
    sv2::SetTargetOwned, sv2::SetTarget<'_>, "SetTarget",
        sv2::MESSAGE_TYPE_SET_TARGET, sv2::CHANNEL_BIT_SET_TARGET;
    sv2::SetGroupChannelOwned, sv2::SetGroupChannel<'_>, "SetGroupChannel",
        sv2::MESSAGE_TYPE_SET_GROUP_CHANNEL, sv2::CHANNEL_BIT_SET_GROUP_CHANNEL;
    common::ReconnectOwned, common::Reconnect<'_>, "Reconnect",
        common::MESSAGE_TYPE_RECONNECT, common::CHANNEL_BIT_RECONNECT;
}

impl Kind<'_> for ExtendedShare {
    const NAME: &'static str = "SubmitSharesExtended";
    const MSG_TYPE: u8 = sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED;
    const CHANNEL_MSG: bool = sv2::CHANNEL_BIT_SUBMIT_SHARES_EXTENDED;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let (share, rest) = decode!(sv2::SubmitSharesExtended<'_>, Self::NAME, payload);
        finish(Self::NAME, rest)?;
        let worker = tlv_field(rest, WORKER_EXTENSION, WORKER_FIELD);
        if let Some(worker) = worker
            && worker.len() > WORKER_BYTES_MAX
        {
            return Err(MessageError::TooLong {
                message: Self::NAME,
                field: "user_identity",
                actual: worker.len(),
                max: WORKER_BYTES_MAX,
            });
        }
        Ok(Self { share, worker: worker.map(<[u8]>::to_vec) })
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut payload = encode(Self::NAME, self.share.clone())?;
        if let Some(worker) = &self.worker {
            let actual = worker.len();
            let length = u16::try_from(actual).ok().filter(|_| actual <= WORKER_BYTES_MAX);
            let field = "user_identity";
            let too_long =
                EncodeError { message: Self::NAME, field, actual, max: WORKER_BYTES_MAX };
            payload.extend_from_slice(&WORKER_EXTENSION.to_le_bytes());
            payload.push(WORKER_FIELD);
            payload.extend_from_slice(&length.ok_or(too_long)?.to_le_bytes());
            payload.extend_from_slice(worker);
        }
        Ok(payload)
    }
}
