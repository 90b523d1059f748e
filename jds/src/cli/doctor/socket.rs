//! The IPC socket of a node, looked at from outside: one who connects and leaves at once can end
//! the node's listener, so nobody connects here.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use config::Node;
use rustix::fs::{Access, access};

use super::code::Code;
use super::report::{Check, Report};

pub(super) fn check(node: &Node, report: &mut Report) {
    if let Some(path) = &node.ipc_socket {
        report.push(socket(&format!("node {}: ipc_socket", node.name), path));
    }
}

/// Its length was checked with the configuration.
fn socket(name: &str, path: &Path) -> Check {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return not_allowed(name, path, &error);
        }
        Err(error) => {
            return Check::bad(
                name,
                Code::IpcMissing,
                format!("{shown}: {error}"),
                format!(
                    "Start the node with IPC: `bitcoin -m node -ipcbind=unix:{shown}` (Bitcoin Core \
                     30 or newer; `bitcoind` has no IPC), or correct `ipc_socket`."
                ),
            );
        }
    };
    if !metadata.file_type().is_socket() {
        return Check::bad(
            name,
            Code::IpcNotSocket,
            format!("{shown} is not a socket"),
            "Set `ipc_socket` to the path that the node has as -ipcbind=unix:PATH (by default \
             node.sock in its data directory, in the folder of the chain).",
        );
    }
    // To connect is to write.
    match access(path, Access::WRITE_OK) {
        Ok(()) => Check::ok(name, format!("{shown} is a socket that we may use")),
        Err(error) => not_allowed(name, path, &error.into()),
    }
}

fn not_allowed(name: &str, path: &Path, error: &io::Error) -> Check {
    Check::bad(
        name,
        Code::IpcPermission,
        format!("{} can not be used: {error}", path.display()),
        "Run server and node as the same user, or put both users into one group and let it write to \
         the socket and enter the folders above it (-startupnotify=\"chmod g+w PATH\" of the node).",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_there_is_told_apart_without_a_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        assert_eq!(socket("n", &path).code, Some(Code::IpcMissing));
        fs::write(&path, "").unwrap();
        assert_eq!(socket("n", &path).code, Some(Code::IpcNotSocket));
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(socket("n", &path).code, None);
        listener.set_nonblocking(true).unwrap();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "somebody connected");
    }
}
