//! One question to the program that knows the users: a POST, and what its answer says.

use std::fmt;

use config::{Secret, UserCallback};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use ureq::Agent;
use ureq::config::Config;

use crate::limits::{USER_CHECK_ANSWER_BYTES_MAX, USER_CHECK_TOKEN_BYTES_MAX};

/// Asks over HTTP.
#[derive(Clone)]
pub struct Asker {
    agent: Agent,
    url: String,
    /// The value of `Authorization`.
    authorization: Option<Secret>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No answer of HTTP, or not in time.
    #[error("{0}")]
    NoAnswer(String),
    /// Another status than 200.
    #[error("the answer was {0}; 200 is expected, also for a user who is denied")]
    Status(u16),
    /// Another body than is expected.
    #[error("the answer is not {{\"allowed\": true}} or {{\"allowed\": false}}")]
    Body,
}

#[derive(Serialize)]
struct Question<'a> {
    user: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    allowed: bool,
}

impl Asker {
    /// As configured.
    ///
    /// # Errors
    /// Why the file with the token can not be used, in words.
    pub fn new(settings: &UserCallback) -> Result<Self, String> {
        let authorization = settings.token_file.as_deref().map(token).transpose()?;
        let config = Config::builder()
            .timeout_global(Some(settings.timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(USER_CHECK_ANSWER_BYTES_MAX as usize)
            .proxy(None)
            // A connection that the other side has just closed would be a user who is turned away.
            .max_idle_connections(0)
            .user_agent(concat!("jds/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), url: settings.url.clone(), authorization })
    }

    /// Asks about one user. Blocks the thread, no longer than is configured.
    ///
    /// # Errors
    /// [`AskError`]: nobody knows.
    pub fn ask(&self, user: &str) -> Result<bool, AskError> {
        let no_answer = |error: &dyn fmt::Display| AskError::NoAnswer(error.to_string());
        let body = serde_json::to_vec(&Question { user }).map_err(|error| no_answer(&error))?;
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.expose());
        }
        let mut response = request.send(body).map_err(|error| no_answer(&error))?;
        if response.status().as_u16() != 200 {
            return Err(AskError::Status(response.status().as_u16()));
        }
        // One that is exactly as long as the limit is over it.
        let body = response.body_mut().with_config().limit(USER_CHECK_ANSWER_BYTES_MAX + 1);
        let body = body.read_to_vec().map_err(|error| no_answer(&error))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| AskError::Body)?;
        Ok(answer.allowed)
    }

    /// As [`Self::ask`], on a thread of its own, which the end of the runtime does not wait for.
    /// `turn` is held as long as that takes.
    pub(super) async fn ask_aside<T: Send + 'static>(
        &self,
        user: &str,
        turn: T,
    ) -> Result<bool, AskError> {
        let (sender, answer) = oneshot::channel();
        let (asker, user) = (self.clone(), user.to_owned());
        let ask = move || {
            let _turn = turn;
            // Whoever waited may be gone.
            let _ = sender.send(asker.ask(&user));
        };
        let thread = std::thread::Builder::new().name("user-check".to_owned()).spawn(ask);
        thread.map_err(|error| AskError::NoAnswer(format!("no thread to ask: {error}")))?;
        answer.await.unwrap_or_else(|error| Err(AskError::NoAnswer(error.to_string())))
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The header's value for the token in a file.
fn token(path: &std::path::Path) -> Result<Secret, String> {
    use std::io::Read;

    let failed = |error: std::io::Error| format!("can not read {}: {error}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(USER_CHECK_TOKEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > USER_CHECK_TOKEN_BYTES_MAX {
        let path = path.display();
        return Err(format!(
            "{path} has more than {USER_CHECK_TOKEN_BYTES_MAX} bytes: it is no token"
        ));
    }
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let path = path.display();
        return Err(format!("{path} holds no token: one line of printable ASCII without spaces"));
    }
    Ok(Secret::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_so_many_bytes_and_is_never_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let longest = "x".repeat(USER_CHECK_TOKEN_BYTES_MAX as usize);
        std::fs::write(&path, &longest).unwrap();
        assert_eq!(token(&path).unwrap().expose(), format!("Bearer {longest}"));
        std::fs::write(&path, longest + "x").unwrap();
        let error = token(&path).unwrap_err();
        assert!(error.contains("more than 4096 bytes"), "{error}");
    }
}
