//! Bytes to the interface and an answer back, whatever was sent.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use jds_tests::{PATIENCE, pool};
use proptest::test_runner::TestCaseError;

use super::requests::Sent;

/// What a connection takes though nobody reads, and more, bytes.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Without its parameters.
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    /// The connection ends after it.
    close: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection on which the next request may follow.
#[derive(Debug)]
pub(super) struct Line(BufReader<UnixStream>);

impl Line {
    pub(super) fn open(socket: &Path) -> Result<Self, TestCaseError> {
        Ok(Self(BufReader::new(pool::connect(socket))))
    }

    /// The answer, and the connection if it may go on. Who goes away in the middle of a request may get
    /// none.
    pub(super) fn exchange(
        mut self,
        sent: &Sent,
    ) -> Result<(Option<Answer>, Option<Self>), TestCaseError> {
        let mut stream = self.0.get_ref().try_clone().map_err(|error| broken("cloned", &error))?;
        let bytes = sent.bytes();
        let small = bytes.len() <= AT_ONCE_BYTES;
        let leaves = !sent.is_framed();
        let answer = std::thread::scope(|scope| {
            // Who reads no answer is not read: both at a time.
            scope.spawn(move || {
                // Whoever is refused early need not have been read.
                let _ = stream.write_all(&bytes);
                if leaves {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            });
            let answer = read(&mut self.0, sent.method == "HEAD");
            // Nobody reads the rest of a large request that was refused.
            if !small {
                let _ = self.0.get_ref().shutdown(Shutdown::Both);
            }
            answer
        });
        match answer {
            Err(_) if leaves => Ok((None, None)),
            Err(error) => Err(error),
            Ok(answer) => {
                let endless = answer.content_type == "text/event-stream";
                let goes_on = small && !leaves && !answer.close && !endless;
                Ok((Some(answer), goes_on.then_some(self)))
            }
        }
    }
}

/// A request on a connection of its own.
pub(super) fn exchange(
    socket: &Path,
    sent: &Sent,
) -> Result<(Option<Answer>, Option<Line>), TestCaseError> {
    Line::open(socket)?.exchange(sent)
}

/// The same over TCP.
pub(super) fn over_tcp(address: SocketAddr, sent: &Sent) -> Result<Answer, TestCaseError> {
    let mut stream = TcpStream::connect(address).map_err(|error| broken("connected", &error))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| broken("set up", &error))?;
    stream.write_all(&sent.bytes()).map_err(|error| broken("written", &error))?;
    read(&mut BufReader::new(stream), sent.method == "HEAD")
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(format!("a connection that could not be {what}: {error}"))
}

/// An answer; those before it that only say to go on are passed over. Of one without an end its
/// beginning.
fn read(reader: &mut impl BufRead, bodiless: bool) -> Result<Answer, TestCaseError> {
    let failed = |error: std::io::Error| broken("read", &error);
    let mut answer =
        Answer { status: 100, content_type: String::new(), body: Vec::new(), close: false };
    let (mut length, mut chunked) = (None, false);
    while answer.status < 200 {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).map_err(failed)? == 0 {
                return Err(TestCaseError::fail(format!("no answer, or a part of one: {head:?}")));
            }
        }
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        answer.status = status.ok_or_else(|| TestCaseError::fail(format!("no head: {head:?}")))?;
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse::<usize>().ok(),
                "transfer-encoding" => chunked = value == "chunked",
                "connection" => answer.close = value == "close",
                "content-type" => {
                    answer.content_type = value.split(';').next().unwrap_or_default().to_owned();
                }
                _ => {}
            }
        }
    }
    if bodiless {
        return Ok(answer);
    }
    let endless = answer.content_type == "text/event-stream";
    match length {
        Some(length) => {
            answer.body.resize(length, 0);
            reader.read_exact(&mut answer.body).map_err(failed)?;
        }
        None if chunked => {
            while let Some(chunk) = chunk(reader)? {
                answer.body.extend(chunk);
                if endless {
                    break;
                }
            }
        }
        None => {
            answer.close = true;
            reader.read_to_end(&mut answer.body).map_err(failed)?;
        }
    }
    Ok(answer)
}

fn chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, TestCaseError> {
    let failed = |error: std::io::Error| broken("read", &error);
    let mut size = String::new();
    reader.read_line(&mut size).map_err(failed)?;
    let size = usize::from_str_radix(size.trim_end(), 16);
    let size = size.map_err(|_| TestCaseError::fail("an answer that breaks off between chunks"))?;
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).map_err(failed)?;
    bytes.truncate(size);
    Ok((size > 0).then_some(bytes))
}
