//! The beginning of a connection: SetupConnection (SV2 5.3.1) and extensions.
#![deny(clippy::indexing_slicing)]

use jds_wire::message::mining::{EXTENSION_TYPE_WORKER, MiningServerMessage, flags};
use jds_wire::message::{self, constants as c};
use tracing::info;

use super::violation::Violation;
use super::{Phase, Session};
use crate::limits::FIRST_CHANNEL_TIMEOUT;
use crate::{Now, Settings};

/// What the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags {
    /// Header-only mining: no extended jobs.
    pub(super) standard_jobs: bool,
    /// It will choose its jobs: none of ours.
    pub(super) work_selection: bool,
    /// As they came.
    pub(super) raw: u32,
}

impl Session {
    pub(super) fn on_setup(
        &mut self,
        setup: &message::SetupConnection<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let unsupported = unsupported_flags(setup.flags, &self.deps.settings);
        let refusal = if setup.protocol != c::SV2_MINING_PROTOCOL_DISCRIMINANT {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, 0))
        } else if !(setup.min_version..=setup.max_version).contains(&message::PROTOCOL_VERSION) {
            Some((c::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH, 0))
        } else if unsupported != 0 {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, unsupported))
        } else {
            None
        };
        if let Some((code, flags)) = refusal {
            let error = message::SetupConnectionError { flags, error_code: code.into() };
            self.send(&MiningServerMessage::SetupConnectionError(error));
            return Err(Violation::SetupRefused(code));
        }
        let flags = Flags {
            standard_jobs: setup.flags & flags::REQUIRES_STANDARD_JOBS != 0,
            work_selection: setup.flags & flags::REQUIRES_WORK_SELECTION != 0,
            raw: setup.flags,
        };
        let until = now.instant + FIRST_CHANNEL_TIMEOUT;
        self.phase = Phase::Ready { flags, first_channel_until: Some(until) };
        self.next_tick = until;
        self.send(&MiningServerMessage::SetupConnectionSuccess(message::SetupConnectionSuccess {
            used_version: message::PROTOCOL_VERSION,
            flags: answer_flags(flags),
        }));
        let printable = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
        info!(
            vendor = printable(setup.vendor),
            firmware = printable(setup.firmware),
            device = printable(setup.device_id),
            standard_jobs = flags.standard_jobs,
            work_selection = flags.work_selection,
            "set up for mining"
        );
        Ok(())
    }

    pub(super) fn on_request_extensions(&mut self, request: message::RequestExtensions) {
        let request_id = request.request_id;
        let supported: Vec<u16> = request
            .requested
            .iter()
            .copied()
            .filter(|extension| *extension == EXTENSION_TYPE_WORKER)
            .take(1)
            .collect();
        self.workers.negotiated |= !supported.is_empty();
        self.send(&if supported.is_empty() {
            MiningServerMessage::RequestExtensionsError(message::RequestExtensionsError {
                request_id,
                unsupported: request.requested,
                required: Vec::new(),
            })
        } else {
            MiningServerMessage::RequestExtensionsSuccess(message::RequestExtensionsSuccess {
                request_id,
                supported,
            })
        });
    }
}

/// Flags that can not be served: unknown ones, what the operator turned off, and custom jobs
/// together with header-only mining, since those are extended jobs.
fn unsupported_flags(asked: u32, settings: &Settings) -> u32 {
    let mut supported = flags::REQUIRES_STANDARD_JOBS | flags::REQUIRES_VERSION_ROLLING;
    if settings.custom_jobs {
        supported |= flags::REQUIRES_WORK_SELECTION;
    }
    let both = flags::REQUIRES_STANDARD_JOBS | flags::REQUIRES_WORK_SELECTION;
    let contradiction = if asked & both == both { both } else { 0 };
    (asked & !supported) | contradiction
}

fn answer_flags(asked: Flags) -> u32 {
    if asked.work_selection { flags::REQUIRES_EXTENDED_CHANNELS } else { 0 }
}
