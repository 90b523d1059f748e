//! The file in which a server keeps its name among those that share a key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bitcoin::hex::{DisplayHex, FromHex};
use rand::RngCore;
use validation::receipt::ServerId;

/// In `data_dir`.
const FILE: &str = "server.id";

/// The name can neither be read nor made.
#[derive(Debug, thiserror::Error)]
pub enum ServerIdError {
    /// The system's reason.
    #[error("can not {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is something else.
    #[error("{} does not hold 16 hex digits: remove it, and a new name is drawn", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
}

/// The name of the server with this data directory, drawn at its first start. Who copies the
/// directory for a second server removes the file there.
///
/// # Errors
/// [`ServerIdError`] names the file.
pub fn of_directory(data_dir: &Path) -> Result<ServerId, ServerIdError> {
    let path = data_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => FromHex::from_hex(text.trim())
            .map(ServerId)
            .map_err(|_| ServerIdError::Content { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut id = [0; 8];
            rand::thread_rng().fill_bytes(&mut id);
            let failed = |source| ServerIdError::Io { action: "write", path: path.clone(), source };
            write(&path, &id).map_err(failed)?;
            Ok(ServerId(id))
        }
        Err(source) => Err(ServerIdError::Io { action: "read", path, source }),
    }
}

/// Whole or not at all: half a name would be in the way of every later start.
fn write(path: &Path, id: &[u8; 8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all(format!("{}\n", id.as_hex()).as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_and_is_another_elsewhere() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = of_directory(here.path()).unwrap();
        assert_eq!(of_directory(here.path()).unwrap(), id);
        assert_ne!(of_directory(there.path()).unwrap(), id);
        fs::write(here.path().join(FILE), "half").unwrap();
        let error = of_directory(here.path()).unwrap_err();
        assert!(error.to_string().contains("server.id"), "{error}");
    }
}
