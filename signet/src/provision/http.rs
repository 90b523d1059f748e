//! Files over HTTP, bounded in size and time.

use std::io::{Read, Write};
use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};

use super::DownloadError;
use super::progress::{Paced, Progress};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence between two reads.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that one file may take in all.
const FILE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const REDIRECTS_MAX: u32 = 5;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
const BYTES_PER_MB: u64 = 1_000_000;

/// A client for files below one folder.
pub(super) struct Folder {
    agent: ureq::Agent,
    base: String,
}

impl Folder {
    /// `base` is a URL, with or without a slash at its end.
    pub(super) fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_global(Some(FILE_TIMEOUT))
            .max_redirects(REDIRECTS_MAX)
            // No redirect leads from a protected connection to an open one.
            .https_only(base.starts_with("https:"))
            .build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned() }
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// A small file as a whole; `None` when the server says that it is not there.
    pub(super) fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, DownloadError> {
        let mut body = Vec::new();
        match self.fetch(name, limit, &mut body, None) {
            Ok(_) => Ok(Some(body)),
            Err(Failure::NotThere) => Ok(None),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// A file into `to`. Returns its SHA-256 in hex.
    pub(super) fn get_into(
        &self,
        name: &str,
        limit: u64,
        to: &mut dyn Write,
        progress: &mut dyn Progress,
    ) -> Result<String, DownloadError> {
        self.fetch(name, limit, to, Some(progress)).map_err(|failure| match failure {
            Failure::NotThere => self.failed(name, "not found (404)"),
            Failure::Other(error) => error,
        })
    }

    fn failed(&self, name: &str, reason: impl ToString) -> DownloadError {
        DownloadError::Http { url: self.url(name), reason: reason.to_string() }
    }

    fn fetch(
        &self,
        name: &str,
        limit: u64,
        to: &mut dyn Write,
        progress: Option<&mut dyn Progress>,
    ) -> Result<String, Failure> {
        let url = self.url(name);
        let response = self.agent.get(&url).call().map_err(|error| match error {
            ureq::Error::StatusCode(404) => Failure::NotThere,
            error => self.failed(name, error).into(),
        })?;
        let too_large = || DownloadError::TooLarge { url: url.clone(), limit_bytes: limit };
        let declared = response.body().content_length();
        if declared.is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        let mut paced = progress.map(Paced::new);
        // One more byte than allowed, so that a body without a length is noticed.
        let mut reader = response.into_body().into_reader().take(limit + 1);
        let mut engine = sha256::Hash::engine();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        loop {
            let n = reader.read(&mut chunk).map_err(|error| self.failed(name, error))?;
            if n == 0 {
                break;
            }
            done += n as u64;
            if done > limit {
                return Err(too_large().into());
            }
            let bytes = chunk.get(..n).unwrap_or_default();
            engine.input(bytes);
            to.write_all(bytes).map_err(|error| self.failed(name, error))?;
            if let (Some(paced), Some(total)) = (&mut paced, declared) {
                paced.figure(done / BYTES_PER_MB, total / BYTES_PER_MB, "MB");
            }
        }
        if let Some(length) = declared.filter(|length| *length != done) {
            let reason = format!("ended after {done} of {length} bytes");
            return Err(self.failed(name, reason).into());
        }
        Ok(sha256::Hash::from_engine(engine).to_string())
    }
}

enum Failure {
    NotThere,
    Other(DownloadError),
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Self {
        Self::Other(error)
    }
}
