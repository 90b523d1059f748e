//! One HTTP connection to a node: requests out, bounded answers in, each within a deadline.
//!
//! Written by hand because a submission has to know whether the whole request had left when
//! something failed, must not be repeated behind its back, and must not copy a block's hex.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::limits::{CONNECT_TIMEOUT_MS, HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX};

/// A connection that may carry several requests, one after the other.
pub(super) struct Connection {
    reader: BufReader<Timed>,
    /// An answer came over it before, so that the node may since have closed it as idle.
    used: bool,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The node will take another request on this connection.
    pub(super) reusable: bool,
}

/// What ended an exchange.
pub(super) struct Broken {
    pub(super) error: io::Error,
    /// The whole request had left: the node may have acted on it.
    pub(super) sent: bool,
    /// Nothing came back on a connection that had worked before: most likely it was closed as
    /// idle before the request arrived.
    pub(super) stale: bool,
}

impl Connection {
    /// Connects to `host:port`. (The deadline does not cover looking up a host name, for which the
    /// operating system has a time-out of its own.)
    ///
    /// # Errors
    /// Of the last address tried.
    pub(super) fn open(authority: &str, deadline: Instant) -> io::Result<Self> {
        let latest = Instant::now() + Duration::from_millis(CONNECT_TIMEOUT_MS);
        let deadline = deadline.min(latest);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in authority.to_socket_addrs()? {
            let connected = TcpStream::connect_timeout(&address, remaining(deadline)?)
                .and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            match connected {
                Ok(stream) => {
                    let reader = BufReader::with_capacity(64 * 1024, Timed { stream, deadline });
                    return Ok(Self { reader, used: false });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends a request given as pieces and reads its answer.
    ///
    /// # Errors
    /// [`Broken`]; the connection is of no further use then.
    pub(super) fn exchange(
        &mut self,
        head: &[u8],
        body: &[&str],
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let used = std::mem::replace(&mut self.used, true);
        self.reader.get_mut().deadline = deadline;
        self.send(head, body).map_err(|error| {
            let stale = used && is_disconnect(&error);
            Broken { error, sent: false, stale }
        })?;
        let mut silent = true;
        self.receive(&mut silent).map_err(|error| {
            let stale = used && silent && is_disconnect(&error);
            Broken { error, sent: true, stale }
        })
    }

    /// Small requests leave in one write; a large piece is written from where it lies.
    fn send(&mut self, head: &[u8], body: &[&str]) -> io::Result<()> {
        const JOIN_BYTES_MAX: usize = 4 * 1024;
        let out = self.reader.get_mut();
        let mut joined = head.to_vec();
        for piece in body {
            if piece.len() > JOIN_BYTES_MAX {
                out.write_all(&joined)?;
                out.write_all(piece.as_bytes())?;
                joined.clear();
            } else {
                joined.extend_from_slice(piece.as_bytes());
            }
        }
        out.write_all(&joined)
    }

    fn receive(&mut self, silent: &mut bool) -> io::Result<Answer> {
        let mut head = self.reader.by_ref().take(HTTP_HEAD_BYTES_MAX);
        let mut line = Vec::new();
        next_line(&mut head, &mut line, silent)?;
        let status = parse_status(&line)?;
        let mut reusable = line.starts_with(b"HTTP/1.1 ");
        let mut length = None;
        loop {
            next_line(&mut head, &mut line, silent)?;
            if line.is_empty() {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let Some((name, value)) = text.split_once(':') else {
                return Err(invalid("a header without a colon"));
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let parsed = value.parse::<u64>();
                length = Some(parsed.map_err(|_| invalid("content-length is not a number"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(invalid("a chunked answer, which Bitcoin Core never sends"));
            } else if name.eq_ignore_ascii_case("connection") {
                reusable &= !value.eq_ignore_ascii_case("close");
            }
        }
        let mut body = Vec::new();
        match length {
            Some(length) if length > HTTP_BODY_BYTES_MAX => {
                return Err(invalid("the answer is larger than any that we ask for"));
            }
            Some(length) => {
                body.reserve_exact(length as usize);
                self.reader.by_ref().take(length).read_to_end(&mut body)?;
                if (body.len() as u64) < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            None => {
                reusable = false;
                let limited = &mut self.reader.by_ref().take(HTTP_BODY_BYTES_MAX);
                limited.read_to_end(&mut body)?;
            }
        }
        Ok(Answer { status, body, reusable })
    }
}

/// Reads one line without its end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>, silent: &mut bool) -> io::Result<()> {
    line.clear();
    reader.read_until(b'\n', line)?;
    *silent &= line.is_empty();
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(())
}

/// `HTTP/1.1 200 OK` to 200.
fn parse_status(line: &[u8]) -> io::Result<u16> {
    std::str::from_utf8(line)
        .ok()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("not an HTTP answer"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe
    )
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket whose every operation ends at one deadline. (A socket time-out alone counts from each
/// read, so that a peer that drips bytes would never meet it.)
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

/// The operating system reports an expired socket time-out as "would block".
fn expired(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(remaining(self.deadline)?))?;
        self.stream.read(buf).map_err(expired)
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(remaining(self.deadline)?))?;
        self.stream.write(buf).map_err(expired)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What one exchange makes of these bytes, on a connection that closes after them.
    fn answer(bytes: &'static [u8]) -> Result<Answer, Broken> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut connection = Connection::open(&authority, deadline).unwrap();
        let answer = connection.exchange(b"h", &["b"], deadline);
        server.join().unwrap();
        answer
    }

    fn broken(bytes: &'static [u8]) -> Broken {
        answer(bytes).err().expect("this is no HTTP answer")
    }

    #[test]
    fn a_complete_answer_keeps_the_connection() {
        let answer =
            answer(b"HTTP/1.1 500 No\r\ncontent-Length: 3\r\nX: y\r\n\r\nabc").ok().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (500, b"abc".as_slice()));
        assert!(answer.reusable);
    }

    #[test]
    fn the_node_may_close_the_connection() {
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
        assert!(!answer(closing).ok().unwrap().reusable);
        let unsized_body = b"HTTP/1.0 200 OK\r\n\r\nall of it";
        let answer = answer(unsized_body).ok().unwrap();
        assert_eq!(answer.body, b"all of it");
        assert!(!answer.reusable);
    }

    #[test]
    fn cut_and_absurd_answers_are_errors_after_sending() {
        for bytes in [
            b"".as_slice(),
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"\xff\xfe\r\n",
        ] {
            let broken = broken(bytes);
            assert!(broken.sent, "{bytes:?}");
            assert!(!broken.stale, "first use of the connection: {bytes:?}");
        }
    }

    #[test]
    fn an_endless_head_is_cut() {
        static HEAD: [u8; 2 * HTTP_HEAD_BYTES_MAX as usize] = [b'a'; _];
        assert_eq!(broken(&HEAD).error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_silent_node_meets_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let deadline = Instant::now() + Duration::from_millis(50);
        let mut connection = Connection::open(&authority, deadline).unwrap();
        let broken = connection.exchange(b"h", &[], deadline).err().unwrap();
        assert_eq!(broken.error.kind(), io::ErrorKind::TimedOut);
        assert!(broken.sent && !broken.stale);
    }
}
