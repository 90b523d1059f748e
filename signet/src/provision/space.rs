//! Is there room for the build?

use std::path::Path;

use super::ProvisionError;

/// Bytes of a megabyte.
const MB: u64 = 1_000_000;

/// Makes sure that the file system of `folder` has `needed_mb` megabytes for us.
///
/// # Errors
/// It has less. A system that does not tell is no error.
pub(super) fn ensure(folder: &Path, needed_mb: u64) -> Result<(), ProvisionError> {
    let Ok(stat) = rustix::fs::statvfs(folder) else { return Ok(()) };
    // What is set aside for root does not count, even for root.
    let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) / MB;
    if free_mb >= needed_mb {
        return Ok(());
    }
    Err(ProvisionError::Space { folder: folder.to_owned(), needed_mb, free_mb })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_an_error_with_the_folder_and_the_amounts() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), 0).unwrap();
        // More than any disk has, and no more than fits.
        let error = ensure(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("needs {} MB", u64::MAX)), "{error}");
        assert!(error.contains("XDG_CACHE_HOME"), "{error}");
    }
}
