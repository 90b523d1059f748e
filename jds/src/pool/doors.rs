//! Where the pool interface is reached: its sockets, bound before anything else begins.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{fs, io};

use api::Token;
use api::pool::Listeners;
use config::PoolInterface;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::POOL_SOCKET_BACKLOG;

/// For owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Why the pool interface does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TCP address.
    #[error("listen = \"{address}\" can not be used: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The unix socket.
    #[error("socket = {path:?} can not be made: {source}")]
    Socket {
        /// As configured.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else is there.
    #[error("socket = {path:?}: {what} is there already; remove it, or name another path")]
    Occupied {
        /// As configured.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The file with the token.
    #[error("token_file: {0}")]
    Token(api::TokenError),
    /// There is nothing to record shares in.
    #[error("needs the store, which is not open")]
    NoStore,
    /// The system gives us no threads or no runtime.
    #[error("can not have threads of its own: {0}")]
    Thread(io::Error),
}

/// Sockets that are bound and serve nobody yet.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(super) tcp: Option<(std::net::TcpListener, SocketAddr, Token)>,
    pub(super) socket: Option<(UnixListener, SocketFile)>,
}

impl Doors {
    /// As configured.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub(crate) async fn open(settings: &PoolInterface) -> Result<Self, StartError> {
        let tcp = match &settings.tcp {
            Some((address, token_file)) => {
                let address = *address;
                let failed = |source| StartError::Listen { address, source };
                let token = Token::from_file(token_file).map_err(StartError::Token)?;
                let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Some((listener.into_std().map_err(failed)?, bound, token))
            }
            None => None,
        };
        let socket = settings.socket.as_deref().map(bind).transpose()?;
        Ok(Self { tcp, socket })
    }

    /// The TCP address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(|(_, address, _)| *address)
    }
}

/// On the runtime that serves them.
pub(super) fn listeners(
    tcp: Option<(std::net::TcpListener, Token)>,
    socket: Option<UnixListener>,
) -> io::Result<Listeners> {
    let tcp = match tcp {
        Some((listener, token)) => Some((tokio::net::TcpListener::from_std(listener)?, token)),
        None => None,
    };
    Ok(Listeners { tcp, socket: socket.map(tokio::net::UnixListener::from_std).transpose()? })
}

/// A unix socket of ours in the file system; removed at the end.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever finds it at the next start removes it then.
        let _ = fs::remove_file(&self.0);
    }
}

/// Nobody can connect before the mode is set: until then it does not listen.
fn bind(path: &Path) -> Result<(UnixListener, SocketFile), StartError> {
    let failed = |source| StartError::Socket { path: path.to_owned(), source };
    clear(path)?;
    let address = SockAddr::unix(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&address).map_err(failed)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    socket.listen(POOL_SOCKET_BACKLOG).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok((socket.into(), file))
}

/// Removes the socket of a server that is gone.
fn clear(path: &Path) -> Result<(), StartError> {
    let occupied = |what| StartError::Occupied { path: path.to_owned(), what };
    let failed = |source| StartError::Socket { path: path.to_owned(), source };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !there.file_type().is_socket() {
        return Err(occupied("something that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(occupied("a socket that somebody serves")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_owner_and_group_and_goes_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.sock");
        let (_bound, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("pool.sock") && error.contains("somebody serves"), "{error}");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_server_that_was_killed_is_made_anew_and_nothing_else_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.sock");
        let (bound, file) = bind(&path).unwrap();
        std::mem::forget(file);
        drop(bound);
        assert!(path.exists());
        drop(bind(&path).unwrap());
        fs::write(&path, "mine").unwrap();
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn so_many_connections_wait_to_be_taken_in_and_each_that_is_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pool.sock");
        let (bound, _file) = bind(&path).unwrap();
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            // One that would have to wait is told so.
            socket.set_nonblocking(true).unwrap();
            socket.connect(&SockAddr::unix(&path).unwrap()).map(|()| socket)
        };
        let mut waiting = Vec::new();
        let full = loop {
            match connect() {
                Ok(socket) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "{full}");
        // The system takes one more than it is told.
        let most = usize::try_from(POOL_SOCKET_BACKLOG).unwrap();
        assert!((most..=most + 1).contains(&waiting.len()), "{} wait", waiting.len());
        let _served = bound.accept().unwrap();
        waiting.push(connect().unwrap());
        assert!(connect().is_err());
    }
}
