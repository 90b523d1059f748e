//! What a miner is told when something is refused.

use std::borrow::Cow;

use mining_sv2::{
    ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE, ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW,
    ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE, ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
    ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT,
    ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE, ERROR_CODE_SUBMIT_SHARES_STALE_SHARE,
    ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED,
};
use sv1_api::client_to_server::SubmitError;

/// There is no such method (a code of the first server).
const METHOD_NOT_FOUND: i32 = -3;

/// A number that miners know, and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) message: Cow<'static, str>,
}

impl Refusal {
    fn new(error: SubmitError, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: error.code(), message: message.into() }
    }

    /// Anything that has no code of its own.
    pub(super) fn other(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SubmitError::Other, message)
    }

    /// The worker is not, or will not be, one of this connection.
    pub(super) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SubmitError::UnauthorizedWorker, message)
    }

    pub(super) fn not_subscribed() -> Self {
        Self::new(SubmitError::NotSubscribed, SubmitError::NotSubscribed.message())
    }

    pub(super) fn no_such_method() -> Self {
        Self { code: METHOD_NOT_FOUND, message: Cow::Borrowed("Method not found") }
    }

    /// Of a share that was refused with a code of the mining protocol crate.
    pub(super) fn of_share(code: &'static str) -> Self {
        use SubmitError::{DuplicateShare, JobNotFound, LowDifficultyShare};
        let plain = |error: SubmitError| Self::new(error, error.message());
        match code {
            ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID => plain(JobNotFound),
            ERROR_CODE_SUBMIT_SHARES_STALE_SHARE => Self::new(JobNotFound, "Stale share"),
            ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE => plain(DuplicateShare),
            ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW => plain(LowDifficultyShare),
            ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE => {
                Self::other("Invalid length of extranonce2")
            }
            ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE => Self::other("Invalid ntime"),
            ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT => {
                Self::other("Version bits outside of the mask")
            }
            ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED => {
                Self::other("Version bits without mining.configure")
            }
            code => Self::other(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_refused_with_the_codes_that_miners_know() {
        let cases = [
            (ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID, 21),
            (ERROR_CODE_SUBMIT_SHARES_STALE_SHARE, 21),
            (ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE, 22),
            (ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW, 23),
            (ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE, 20),
            (ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE, 20),
            (ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT, 20),
            (ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED, 20),
        ];
        for (code, expected) in cases {
            assert_eq!(Refusal::of_share(code).code, expected, "{code}");
        }
        assert_eq!(Refusal::unauthorized("").code, 24);
        assert_eq!(Refusal::not_subscribed().code, 25);
    }
}
