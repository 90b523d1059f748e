//! The name and weight of everything that can be wrong. The guide explains each.

use serde::{Serialize, Serializer};

use super::report::Status;

macro_rules! codes {
    ($($name:ident => $status:ident, $text:literal;)+) => {
        /// What was found to be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $($name),+ }

        impl Code {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name),+];

            /// For scripts and people.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// How bad it is.
            pub(super) fn status(self) -> Status {
                match self { $(Self::$name => Status::$status),+ }
            }
        }
    };
}

codes! {
    ConfigInvalid => Problem, "config-invalid";
    ConfigWarning => Warning, "config-warning";
    KeyMismatch => Problem, "key-mismatch";
    KeyFile => Problem, "key-file";
    PayoutScript => Problem, "payout-script";
    ApiWithoutToken => Problem, "api-without-token";
    ApiOpen => Warning, "api-open";
    TokenFile => Problem, "token-file";
    UserCheckDown => Warning, "user-check-down";
    FilesLimit => Warning, "files-limit";
    DataDirUnusable => Problem, "data-dir-unusable";
    DataDirReadOnly => Problem, "data-dir-read-only";
    DiskFull => Problem, "disk-full";
    DiskSmall => Warning, "disk-small";
    DatabaseUnusable => Problem, "database-unusable";
    DatabaseTooNew => Problem, "database-too-new";
    DatabaseNotClosed => Warning, "database-not-closed";
    ListenTaken => Problem, "listen-taken";
    ListenAddress => Problem, "listen-address";
    IpcMissing => Problem, "ipc-missing";
    IpcNotSocket => Problem, "ipc-not-socket";
    IpcPermission => Problem, "ipc-permission";
    NodeUnreachable => Problem, "node-unreachable";
    NodeNotRpc => Problem, "node-not-rpc";
    NodeNoAnswer => Problem, "node-no-answer";
    NodeBusy => Problem, "node-busy";
    NodeCookieMissing => Problem, "node-cookie-missing";
    NodeCookieUnreadable => Problem, "node-cookie-unreadable";
    NodeLogin => Problem, "node-login";
    NodeForbidden => Problem, "node-forbidden";
    NodeNoWait => Warning, "node-no-wait";
    NodeStarting => Warning, "node-starting";
    NodeError => Problem, "node-error";
    NodeNetwork => Problem, "node-network";
    NodeOld => Warning, "node-old";
    NodeNoIpc => Problem, "node-no-ipc";
    NodeSyncing => Warning, "node-syncing";
    NodeNoPeers => Warning, "node-no-peers";
    NodeFewPeers => Warning, "node-few-peers";
    NodeTipOld => Warning, "node-tip-old";
    NodeMempool => Warning, "node-mempool";
    NodeTemplate => Problem, "node-template";
    NodeReserved => Warning, "node-reserved";
    NodeSmallTemplate => Warning, "node-small-template";
    ProviderUnreachable => Problem, "provider-unreachable";
    ProviderKey => Problem, "provider-key";
    ProviderRefused => Problem, "provider-refused";
    ProviderProtocol => Problem, "provider-protocol";
    ProviderTemplate => Warning, "provider-template";
    NodesFork => Problem, "nodes-fork";
    NodesLag => Warning, "nodes-lag";
    NodesNone => Problem, "nodes-none";
    ClockWrong => Problem, "clock-wrong";
    ClockDiffers => Problem, "clock-differs";
    ClockDrifts => Warning, "clock-drifts";
    ClockUnknown => Warning, "clock-unknown";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the guide's tables: code and kind.
    fn rows(page: &str) -> Vec<(String, String)> {
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
        };
        page.lines().filter_map(row).collect()
    }

    #[test]
    fn the_guide_explains_each_code_and_no_other() {
        let mut written = rows(include_str!("../../../../guides/src/troubleshooting.md"));
        let kind = |code: &Code| match code.status() {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Problem => "problem",
        };
        let mut known: Vec<_> = Code::ALL
            .iter()
            .map(|code| (code.as_str().to_owned(), kind(code).to_owned()))
            .collect();
        written.sort();
        known.sort();
        assert_eq!(written, known);
    }
}
