//! The messages of a mining connection (SV2 3.6, 5 and the extensions 0x0001 and 0x0002).
//!
//! Their fields are the owned types of `mining_sv2`: channels and job factories of the protocol
//! crates take and give those. Numbers that are hashes (`prev_hash`, `merkle_root`, targets) are the
//! bytes as they are hashed, little endian as numbers.
#![deny(clippy::indexing_slicing)]

mod fields;

pub use common_messages_sv2::ReconnectOwned;
pub use mining_sv2::{
    CloseChannelOwned, NewExtendedMiningJobOwned, NewMiningJobOwned,
    OpenExtendedMiningChannelOwned, OpenExtendedMiningChannelSuccessOwned,
    OpenMiningChannelErrorOwned, OpenStandardMiningChannelOwned,
    OpenStandardMiningChannelSuccessOwned, SetCustomMiningJobErrorOwned, SetCustomMiningJobOwned,
    SetCustomMiningJobSuccessOwned, SetExtranoncePrefixOwned, SetGroupChannelOwned,
    SetNewPrevHashOwned, SetTargetOwned, SubmitSharesErrorOwned, SubmitSharesExtendedOwned,
    SubmitSharesStandardOwned, SubmitSharesSuccessOwned, UpdateChannelErrorOwned,
    UpdateChannelOwned,
};

use super::{
    RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess, SetupConnection,
    SetupConnectionError, SetupConnectionSuccess, kind::messages,
};

/// Bits of the flags of SetupConnection and its answers (SV2 5.3.1).
pub mod flags {
    /// Client: header-only mining, so standard jobs only.
    pub const REQUIRES_STANDARD_JOBS: u32 = 1 << 0;
    /// Client: it will set custom jobs.
    pub const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
    /// Client: it rolls bits of the version (BIP 323).
    pub const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;
    /// Server: it does not take rolled versions.
    pub const REQUIRES_FIXED_VERSION: u32 = 1 << 0;
    /// Server: it takes no standard channels.
    pub const REQUIRES_EXTENDED_CHANNELS: u32 = 1 << 1;
}

/// The longest worker name that extension 0x0002 allows, bytes.
pub const WORKER_BYTES_MAX: usize =
    extensions_sv2::worker_specific_hashrate_tracking::MAX_USER_IDENTITY_LENGTH;
/// Number of the extension that names the worker of a share.
pub const EXTENSION_TYPE_WORKER: u16 = extensions_sv2::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING;

messages! {
    /// A message from a client to a mining server.
    #[derive(Debug, Clone)]
    pub enum MiningClientMessage<'a> {
        /// SV2 3.6.1.
        SetupConnection(SetupConnection<'a>),
        /// Extension 0x0001, section 2.
        RequestExtensions(RequestExtensions),
        /// SV2 5.3.2.
        OpenStandardMiningChannel(OpenStandardMiningChannelOwned),
        /// SV2 5.3.4.
        OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned),
        /// SV2 5.3.7.
        UpdateChannel(UpdateChannelOwned),
        /// SV2 5.3.9.
        CloseChannel(CloseChannelOwned),
        /// SV2 5.3.11.
        SubmitSharesStandard(SubmitSharesStandardOwned),
        /// SV2 5.3.12.
        SubmitSharesExtended(ExtendedShare),
        /// SV2 5.3.18.
        SetCustomMiningJob(SetCustomMiningJobOwned),
    }
}

messages! {
    /// A message from a mining server to a client.
    #[derive(Debug, Clone)]
    pub enum MiningServerMessage {
        /// SV2 3.6.2.
        SetupConnectionSuccess(SetupConnectionSuccess),
        /// SV2 3.6.3.
        SetupConnectionError(SetupConnectionError),
        /// Extension 0x0001, section 2.
        RequestExtensionsSuccess(RequestExtensionsSuccess),
        /// Extension 0x0001, section 2.
        RequestExtensionsError(RequestExtensionsError),
        /// SV2 5.3.3.
        OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccessOwned),
        /// SV2 5.3.5.
        OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccessOwned),
        /// SV2 5.3.6.
        OpenMiningChannelError(OpenMiningChannelErrorOwned),
        /// SV2 5.3.8.
        UpdateChannelError(UpdateChannelErrorOwned),
        /// SV2 5.3.9.
        CloseChannel(CloseChannelOwned),
        /// SV2 5.3.10.
        SetExtranoncePrefix(SetExtranoncePrefixOwned),
        /// SV2 5.3.13.
        SubmitSharesSuccess(SubmitSharesSuccessOwned),
        /// SV2 5.3.14.
        SubmitSharesError(SubmitSharesErrorOwned),
        /// SV2 5.3.15.
        NewMiningJob(NewMiningJobOwned),
        /// SV2 5.3.16.
        NewExtendedMiningJob(NewExtendedMiningJobOwned),
        /// SV2 5.3.17.
        SetNewPrevHash(SetNewPrevHashOwned),
        /// SV2 5.3.19.
        SetCustomMiningJobSuccess(SetCustomMiningJobSuccessOwned),
        /// SV2 5.3.20.
        SetCustomMiningJobError(SetCustomMiningJobErrorOwned),
        /// SV2 5.3.21.
        SetTarget(SetTargetOwned),
        /// SV2 5.3.22.
        SetGroupChannel(SetGroupChannelOwned),
        /// SV2 3.6.5.
        Reconnect(ReconnectOwned),
    }
}

/// A share of an extended channel (SV2 5.3.12), with what extension 0x0002 adds.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtendedShare {
    /// The share.
    pub share: SubmitSharesExtendedOwned,
    /// Who mined it, of any bytes, at most [`WORKER_BYTES_MAX`]. Means something only where the
    /// extension was negotiated.
    pub worker: Option<Vec<u8>>,
}
