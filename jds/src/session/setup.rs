//! The beginning of a connection: `SetupConnection` and extensions.

#![deny(clippy::indexing_slicing)]

use std::time::Instant;

use jds_wire::ServerMessage;
use jds_wire::message::{self, constants as c};

use super::{CloseReason, Phase, Record, Session};
use crate::limits::FIRST_REQUEST_TIMEOUT;

impl Session {
    pub(super) fn on_setup(&mut self, setup: &message::SetupConnection<'_>, now: Instant) {
        let full_template = setup.declares_tx_data();
        let unknown_flags = setup.flags & !message::FLAG_DECLARE_TX_DATA;
        let refusal = if setup.protocol != c::SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, 0))
        } else if !(setup.min_version..=setup.max_version).contains(&message::PROTOCOL_VERSION) {
            Some((c::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH, 0))
        } else if unknown_flags != 0 {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, unknown_flags))
        } else if full_template && !self.deps.full_template {
            let flags = message::FLAG_DECLARE_TX_DATA;
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, flags))
        } else if !full_template && !self.deps.coinbase_only {
            Some((c::ERROR_CODE_SETUP_CONNECTION_MISSING_DECLARE_TX_DATA_FLAG, 0))
        } else {
            None
        };
        if let Some((code, flags)) = refusal {
            let error = message::SetupConnectionError { flags, error_code: code.into() };
            self.send(ServerMessage::SetupConnectionError(error));
            self.close(CloseReason::SetupRefused(code));
            return;
        }
        self.phase = Phase::Idle { deadline: now + FIRST_REQUEST_TIMEOUT, full_template };
        let used_version = message::PROTOCOL_VERSION;
        let success = message::SetupConnectionSuccess { used_version, flags: 0 };
        self.send(ServerMessage::SetupConnectionSuccess(success));
        let printable = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
        self.record(Record::SetUp {
            flags: setup.flags,
            full_template,
            vendor: printable(setup.vendor),
            firmware: printable(setup.firmware),
        });
    }

    pub(super) fn on_request_extensions(&mut self, request: message::RequestExtensions) {
        // None is needed here and none is offered; the peer decides what that means to it.
        self.send(ServerMessage::RequestExtensionsError(message::RequestExtensionsError {
            request_id: request.request_id,
            unsupported: request.requested,
            required: Vec::new(),
        }));
    }
}
