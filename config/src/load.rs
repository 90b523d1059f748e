//! From a file and the environment to [`Checked`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::check;
use crate::checked::Checked;
use crate::document::{Document, Places};
use crate::env;
use crate::error::{ConfigError, Problem};
use crate::keys;
use crate::known::ENV_PREFIX;
use crate::raw::Raw;

/// Bound of the configuration file, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads the file at `path`, lets variables of `env` that start with `JDS_` override it (other
/// variables are ignored), fills all defaults and checks everything.
///
/// Reads the secret key file and password files, never a cookie file: the node may be down.
///
/// # Errors
/// [`ConfigError`] names the file, the key or variable, what was found and what was expected.
/// It never holds a secret value.
pub fn load(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Checked, ConfigError> {
    let located = |problem| ConfigError { path: path.to_owned(), problem: Box::new(problem) };
    let (text, exposed_mode) = read(path).map_err(located)?;
    let (mut checked, in_file) = from_text(&text, path, env).map_err(located)?;
    if let (Some(mode), Some(key)) = (exposed_mode, in_file) {
        checked.warnings.push(format!(
            "{} holds `{key}` and can be read by other users (mode {mode:03o}); run: chmod 600 {}",
            path.display(),
            path.display()
        ));
    }
    Ok(checked)
}

/// [`load`] with the environment of this process.
///
/// # Errors
/// As [`load`]; also when one of our variables is not UTF-8 (any other one may be).
pub fn load_here(path: &Path) -> Result<Checked, ConfigError> {
    let ours = own_variables(std::env::vars_os())
        .map_err(|problem| ConfigError { path: path.to_owned(), problem: Box::new(problem) })?;
    load(path, ours.into_iter())
}

/// The variables with our prefix, as text.
fn own_variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Problem> {
    all.filter_map(|(name, text)| {
        // Our names are ASCII, so a name that is not UTF-8 at least has no known key.
        let name = name.to_string_lossy().into_owned();
        name.starts_with(ENV_PREFIX).then_some((name, text))
    })
    .map(|(variable, text)| match text.into_string() {
        Ok(text) => Ok((variable, text)),
        Err(_) => Err(Problem::VariableNotText { variable }),
    })
    .collect()
}

/// Like [`load`], for a text that is not in a file; relative paths start at the directory of
/// `path`, which need not exist and is named in errors.
///
/// # Errors
/// As [`load`].
pub fn parse(
    text: &str,
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Checked, ConfigError> {
    from_text(text, path, env)
        .map(|(checked, _)| checked)
        .map_err(|problem| ConfigError { path: path.to_owned(), problem: Box::new(problem) })
}

fn read(path: &Path) -> Result<(Zeroizing<String>, Option<u32>), Problem> {
    let file = File::open(path).map_err(Problem::Read)?;
    let exposed_mode = keys::exposed_mode(&file).map_err(Problem::Read)?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(Problem::Read)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Problem::TooLong { max_bytes: FILE_BYTES_MAX });
    }
    Ok((text, exposed_mode))
}

/// Also names a secret key that the text itself holds.
fn from_text(
    text: &str,
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(Checked, Option<String>), Problem> {
    let mut document = Document::parse(text)?;
    env::apply(&mut document, env)?;
    let (raw, places) = document.finish()?;
    let in_file = secret_in_file(&raw, &places);
    let base = base_of(path).map_err(Problem::Read)?;
    Ok((check::check(raw, &places, &base)?, in_file))
}

fn base_of(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(path.parent().unwrap_or(&path).to_owned())
}

fn secret_in_file(raw: &Raw, places: &Places) -> Option<String> {
    let authority = raw.authority.secret_key.is_some();
    let passwords = raw.node.iter().enumerate().filter(|(_, node)| node.rpc_password.is_some());
    authority
        .then(|| "authority.secret_key".to_owned())
        .into_iter()
        .chain(passwords.map(|(index, _)| format!("node.{index}.rpc_password")))
        .find(|key| places.of(key).variable.is_none())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_our_variables_have_to_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(vec![b'a', 0xff]);
        let good = (OsString::from("JDS_DATA_DIR"), OsString::from("/x"));
        let foreign = [(OsString::from("OTHER"), bytes()), (bytes(), bytes()), good];
        assert_eq!(
            own_variables(foreign.into_iter()).unwrap(),
            [("JDS_DATA_DIR".to_owned(), "/x".to_owned())]
        );
        let ours = [(OsString::from("JDS_DATA_DIR"), bytes())];
        let error = own_variables(ours.into_iter()).unwrap_err().to_string();
        assert!(error.contains("JDS_DATA_DIR") && error.contains("UTF-8"), "{error}");
    }
}
