//! Found blocks in files, while the store can not write them: neither a crash nor a restart of ours
//! loses one that no node has taken yet.
//!
//! `found-blocks/<hash>` in the data directory holds one line of JSON, then the block as hex. It
//! is complete or it is not there: written under another name, flushed, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hex::FromHex as _;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::limits::FOUND_FILE_BYTES_MAX;

/// Folder of the data directory.
const FOLDER: &str = "found-blocks";
/// What is being written.
const UNFINISHED: &str = "tmp";
/// What could not be read at a start.
const BAD: &str = "bad";

/// The files of found blocks.
#[derive(Debug)]
pub struct FoundFiles {
    folder: PathBuf,
}

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundFacts {
    /// The block.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Who declared its template.
    pub user: String,
    /// Its template, 64 hex digits.
    pub template_hash: String,
    /// When it was found, Unix milliseconds.
    pub found_at_unix_ms: u64,
    /// Hex digits on the second line.
    pub digits: usize,
}

impl FoundFiles {
    /// In this data directory, which is made if it is not there. Nothing here stops a start: where
    /// blocks can not be kept, that is said in the log, and they are submitted all the same.
    pub fn open(data_dir: &Path) -> Self {
        let folder = data_dir.join(FOLDER);
        if let Err(error) = fs::create_dir_all(&folder) {
            error!(folder = %folder.display(), %error,
                "data_dir: found blocks can not be kept on disk: one that no node has taken is \
                 lost when this process ends");
        }
        Self { folder }
    }

    /// Where the block is kept.
    pub fn path(&self, hash: &BlockHash) -> PathBuf {
        self.folder.join(hash.to_string())
    }

    /// Writes a block. It is on the disk when this returns; blocks the thread for as long.
    ///
    /// # Errors
    /// The system's; then no file has the block's name.
    pub fn keep(&self, facts: &FoundFacts, hex: &str) -> io::Result<()> {
        let path = self.path(&facts.hash);
        let unfinished = path.with_extension(UNFINISHED);
        let mut head = serde_json::to_vec(facts)?;
        head.push(b'\n');
        let written = write_synced(&unfinished, &[&head, hex.as_bytes()]);
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            // A part of a block is of no use to the next start. What can not be removed is put
            // aside by it.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.sync_folder()
    }

    /// Removes a block that needs us no more.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, hash: &BlockHash) -> io::Result<()> {
        fs::remove_file(self.path(hash))?;
        self.sync_folder()
    }

    /// The files of an earlier run.
    pub fn left_over(&self) -> Vec<PathBuf> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                error!(folder = %self.folder.display(), %error,
                    "data_dir: found blocks of an earlier run can not be looked for");
                return Vec::new();
            }
        };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.is_file() && file.extension().is_none_or(|end| end != BAD));
        files.sort();
        files
    }

    /// Reads a file of an earlier run. One that holds no whole block is put aside under another
    /// name and reported. What is known of it, and the block.
    pub fn load(&self, file: &Path) -> Option<(FoundFacts, Vec<u8>)> {
        let loaded = match read(file) {
            Ok(loaded) => loaded,
            Err(reason) => {
                let mut aside = file.as_os_str().to_owned();
                aside.push(".");
                aside.push(BAD);
                let moved = fs::rename(file, &aside);
                error!(file = %file.display(), reason, moved = moved.is_ok(),
                    "holds no found block, put aside");
                return None;
            }
        };
        let path = self.path(&loaded.0.hash);
        // Complete, but we ended before it had its name.
        if file != path
            && let Err(error) = fs::rename(file, &path)
        {
            warn!(file = %file.display(), %error, "can not be renamed");
        }
        Some(loaded)
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = File::create(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn read(file: &Path) -> Result<(FoundFacts, Vec<u8>), String> {
    let bytes = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if bytes > FOUND_FILE_BYTES_MAX {
        return Err(format!("{bytes} bytes; a block is at most {FOUND_FILE_BYTES_MAX}"));
    }
    let mut text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let end = text.find('\n').ok_or("expected two lines")?;
    let hex = text.split_off(end + 1);
    let facts: FoundFacts = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if hex.len() != facts.digits || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!("expected {} hex digits, found {} bytes", facts.digits, hex.len()));
    }
    let block = Vec::from_hex(&hex).map_err(|error| error.to_string())?;
    let header = block.get(..Header::SIZE).ok_or("a block is longer than its header")?;
    let header: Header = deserialize(header).map_err(|error| error.to_string())?;
    let (expected, actual) = (facts.hash, header.block_hash());
    if actual != expected {
        return Err(format!("expected block {expected}, found {actual}"));
    }
    Ok((facts, block))
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::encode::serialize_hex;
    use bitcoin::constants::genesis_block;

    use super::*;

    fn block() -> (FoundFacts, String) {
        let block = genesis_block(bitcoin::Network::Regtest);
        let hex = serialize_hex(&block);
        let facts = FoundFacts {
            hash: block.block_hash(),
            height: 0,
            user: "a\nlice\"".into(),
            template_hash: "ab".repeat(32),
            found_at_unix_ms: 1,
            digits: hex.len(),
        };
        (facts, hex)
    }

    #[test]
    fn what_is_kept_is_found_by_the_next_run_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, hex) = block();
        let files = FoundFiles::open(&dir.path().join("made/too"));
        assert!(files.left_over().is_empty());
        files.keep(&facts, &hex).unwrap();
        assert_eq!(files.left_over(), [files.path(&facts.hash)]);
        assert_eq!(
            files.load(&files.path(&facts.hash)),
            Some((facts.clone(), Vec::from_hex(&hex).unwrap()))
        );
        files.remove(&facts.hash).unwrap();
        assert!(files.left_over().is_empty());
    }

    #[test]
    fn a_complete_file_that_had_no_name_yet_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, hex) = block();
        let files = FoundFiles::open(dir.path());
        files.keep(&facts, &hex).unwrap();
        let unfinished = files.path(&facts.hash).with_extension(UNFINISHED);
        fs::rename(files.path(&facts.hash), &unfinished).unwrap();
        assert_eq!(files.load(&unfinished), Some((facts.clone(), Vec::from_hex(&hex).unwrap())));
        assert_eq!(files.left_over(), [files.path(&facts.hash)]);
    }

    #[test]
    fn a_file_without_a_whole_block_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, hex) = block();
        let files = FoundFiles::open(dir.path());
        files.keep(&facts, &hex).unwrap();
        let path = files.path(&facts.hash);
        let whole = fs::read_to_string(&path).unwrap();
        let other = whole.replacen("01000000", "02000000", 1);
        for text in ["", "{}", "{}\n", &whole[..whole.len() - 1], &whole[..400], &other, "\n\n\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(files.load(&path), None, "{text}");
            assert!(files.left_over().is_empty(), "{text}");
            let aside = path.with_extension(BAD);
            assert_eq!(fs::read_to_string(&aside).unwrap(), text);
        }
        // Too large to be one: not read at all.
        File::create(&path).unwrap().set_len(FOUND_FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(files.load(&path), None);
    }

    #[test]
    fn what_could_not_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (facts, hex) = block();
        let files = FoundFiles::open(dir.path());
        // The name is taken by something that no file can replace.
        fs::create_dir(files.path(&facts.hash)).unwrap();
        files.keep(&facts, &hex).unwrap_err();
        assert!(files.left_over().is_empty());
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("file");
        fs::write(&taken, "").unwrap();
        let files = FoundFiles::open(&taken);
        assert!(files.left_over().is_empty());
        let (facts, hex) = block();
        files.keep(&facts, &hex).unwrap_err();
    }
}
