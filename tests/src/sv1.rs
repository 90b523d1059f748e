//! A small Stratum V1 client: one line out, lines in, read with the reference's crate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use serde_json::{Value, json};
use sv1_api::Message;
use sv1_api::server_to_client::Notify;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::PATIENCE;

/// The server has closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// What a request came to: the result, or code and text of the refusal.
pub type Answer = Result<Value, (i64, String)>;

/// A connection.
#[derive(Debug)]
pub struct Sv1Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    next_id: u64,
    /// The beginning of a line.
    partial: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
    /// Answers and jobs that came while something else was awaited.
    inbox: VecDeque<Value>,
    /// What the server's part of the extranonce is.
    pub extranonce1: Vec<u8>,
    /// Bytes of ours.
    pub extranonce2_bytes: usize,
    /// Of the next job.
    pub difficulty: f64,
    /// The newest job.
    pub job: Option<Job>,
}

/// A job, with what it is to be mined at.
#[derive(Debug, Clone)]
pub struct Job {
    /// As announced.
    pub notify: Notify,
    /// What was told before it.
    pub difficulty: f64,
    extranonce1: Vec<u8>,
}

/// A share.
#[derive(Debug, Clone)]
pub struct Mined {
    /// The header that was hashed.
    pub header: Header,
    /// Of the job.
    pub job_id: String,
    /// What the miner rolled.
    pub extranonce2: Vec<u8>,
    /// Bits of nVersion, where they were rolled.
    pub version_bits: Option<u32>,
}

impl Sv1Client {
    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            reader: BufReader::new(reader),
            writer,
            next_id: 1,
            partial: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            inbox: VecDeque::new(),
            extranonce1: Vec::new(),
            extranonce2_bytes: 0,
            difficulty: 1.0,
            job: None,
        })
    }

    /// Subscribed, authorized, and with a job.
    pub async fn mining(address: SocketAddr, user: &str) -> Self {
        let mut client = Self::connect(address).await.expect("a port for Stratum V1");
        client.subscribe().await.expect("a subscription");
        let answer = client.ask("mining.authorize", json!([user, "x"])).await;
        assert_eq!(answer, Ok(Ok(json!(true))), "mining.authorize of {user}");
        client.next_job().await.expect("a job");
        client
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.bytes_out += bytes.len() as u64;
        // The server may have closed: what is read next tells.
        let _ = self.writer.write_all(bytes).await;
    }

    /// The next line, taken as a miner takes it.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn line(&mut self) -> Result<Value, Closed> {
        timeout(PATIENCE, self.hear()).await.expect("a line of the server in time")
    }

    /// Takes lines as they come, for so long.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn listen(&mut self, period: Duration) -> Result<(), Closed> {
        let until = Instant::now() + period;
        while let Ok(value) = timeout_at(until, self.hear()).await {
            let value = value?;
            if value["method"].is_null() {
                self.inbox.push_back(value);
            }
        }
        Ok(())
    }

    /// As [`Self::line`], however long it takes. Cancelled, nothing is lost.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn hear(&mut self) -> Result<Value, Closed> {
        match self.reader.read_until(b'\n', &mut self.partial).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Closed),
        }
        self.bytes_in += self.partial.len() as u64;
        let line =
            String::from_utf8(std::mem::take(&mut self.partial)).expect("text of the server");
        let value: Value = serde_json::from_str(&line).expect("JSON of the server");
        match value["method"].as_str() {
            Some("mining.set_difficulty") => {
                self.difficulty = value["params"][0].as_f64().expect("a difficulty");
            }
            Some("mining.set_extranonce") => {
                self.extranonce1 = hex(&value["params"][0]);
            }
            Some("mining.notify") => {
                self.job = Some(Job {
                    notify: notify(&line),
                    difficulty: self.difficulty,
                    extranonce1: self.extranonce1.clone(),
                });
            }
            _ => {}
        }
        Ok(value)
    }

    /// Bytes that came in whole lines and that left so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Closed`] before it came.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Closed> {
        let id = self.request(method, params).await;
        self.answer(id).await
    }

    /// Sends a request. Gives its id.
    pub async fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let line = json!({"id": id, "method": method, "params": params}).to_string() + "\n";
        self.send_raw(line.as_bytes()).await;
        id
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// [`Closed`] before it came.
    pub async fn answer(&mut self, id: u64) -> Result<Answer, Closed> {
        loop {
            let known = self.inbox.iter().position(|value| value["id"] == id);
            let value = match known.and_then(|at| self.inbox.remove(at)) {
                Some(value) => value,
                None => self.line().await?,
            };
            if value["id"] != id {
                self.inbox.push_back(value);
                continue;
            }
            return Ok(match &value["error"] {
                Value::Null => Ok(value["result"].clone()),
                error => Err((
                    error[0].as_i64().expect("the number of an error"),
                    error[1].as_str().expect("its text").to_owned(),
                )),
            });
        }
    }

    /// `mining.subscribe`.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn subscribe(&mut self) -> Result<(), Closed> {
        let result = self.ask("mining.subscribe", json!(["jds-tests/1"])).await?;
        let result = result.expect("an accepted mining.subscribe");
        self.extranonce1 = hex(&result[1]);
        self.extranonce2_bytes = result[2].as_u64().expect("a length") as usize;
        Ok(())
    }

    /// Waits for a job that is not the present one.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn next_job(&mut self) -> Result<Job, Closed> {
        let old = self.job.as_ref().map(|job| job.notify.job_id.clone());
        loop {
            match &self.job {
                Some(job) if Some(&job.notify.job_id) != old.as_ref() => return Ok(job.clone()),
                _ => {
                    let value = self.line().await?;
                    self.inbox.push_back(value);
                }
            }
        }
    }

    /// `mining.submit`. Gives the id of the request.
    pub async fn submit(&mut self, user: &str, share: &Mined) -> u64 {
        self.request("mining.submit", Self::submission(user, share)).await
    }

    /// The parameters of `mining.submit`.
    pub fn submission(user: &str, share: &Mined) -> Value {
        let mut params = vec![
            user.into(),
            share.job_id.clone().into(),
            share.extranonce2.to_lower_hex_string().into(),
            format!("{:08x}", share.header.time).into(),
            format!("{:08x}", share.header.nonce).into(),
        ];
        if let Some(bits) = share.version_bits {
            params.push(Value::from(format!("{bits:08x}")));
        }
        params.into()
    }

    /// Mines a share of the present job that is `good`, beginning at an extranonce.
    pub fn mine(&self, extranonce2: u64, good: impl Fn(&Header, f64) -> bool) -> Mined {
        let job = self.job.as_ref().expect("a job");
        job.mine(extranonce2, self.extranonce2_bytes, None, u32::MAX, good).expect("a share")
    }
}

impl Job {
    /// Hashes `nonces` nonces with an extranonce. `version_bits`: what replaces the bits of a mask,
    /// and the mask.
    pub fn mine(
        &self,
        extranonce2: u64,
        extranonce2_bytes: usize,
        version_bits: Option<(u32, u32)>,
        nonces: u32,
        good: impl Fn(&Header, f64) -> bool,
    ) -> Option<Mined> {
        let Self { notify: job, extranonce1, difficulty } = self;
        let mut ours = vec![0; extranonce2_bytes];
        let count = extranonce2.to_be_bytes();
        ours.iter_mut().rev().zip(count.iter().rev()).for_each(|(to, from)| *to = *from);
        let (begin, end) = (job.coin_base1.as_ref(), job.coin_base2.as_ref());
        let coinbase = [begin.as_slice(), extranonce1, &ours, end].concat();
        let root = job.merkle_branch.iter().fold(sha256d::Hash::hash(&coinbase), |root, beside| {
            sha256d::Hash::hash(&[root.as_byte_array().as_slice(), beside.as_ref()].concat())
        });
        let (bits, mask) = version_bits.unwrap_or_default();
        let version = (job.version.0 & !mask) | (bits & mask);
        let prev_hash = job.prev_hash.as_ref();
        let mut header = Header {
            version: Version::from_consensus(version.cast_signed()),
            prev_blockhash: BlockHash::from_slice(prev_hash).expect("32 bytes"),
            merkle_root: TxMerkleNode::from_raw_hash(root),
            time: job.time.0,
            bits: CompactTarget::from_consensus(job.bits.0),
            nonce: 0,
        };
        while !good(&header, *difficulty) {
            header.nonce += 1;
            if header.nonce >= nonces {
                return None;
            }
        }
        Some(Mined {
            header,
            job_id: job.job_id.clone(),
            extranonce2: ours,
            version_bits: version_bits.map(|(bits, _)| bits),
        })
    }
}

/// Good enough for the difficulty that was told.
pub fn is_share(header: &Header, difficulty: f64) -> bool {
    difficulty_of(&header.block_hash()) >= difficulty
}

/// Good enough for a block.
pub fn is_block(header: &Header, _difficulty: f64) -> bool {
    header.target().is_met_by(header.block_hash())
}

/// As a miner works it out: the target of difficulty 1, divided by the hash.
fn difficulty_of(hash: &BlockHash) -> f64 {
    let bytes = hash.as_byte_array().iter().rev();
    let number = bytes.fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
    f64::from(0xffff) * 2_f64.powi(208) / number
}

fn notify(line: &str) -> Notify {
    match serde_json::from_str(line) {
        Ok(Message::Notification(notification)) => {
            Notify::try_from(notification).expect("a job that the reference's crate can read")
        }
        other => panic!("no notification: {other:?}"),
    }
}

fn hex(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().expect("hex digits")).expect("hex digits")
}
