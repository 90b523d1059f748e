//! Requests: the head, and what is done to the bytes of the body.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::operation::{Description, Operation};
use super::values::{Dictionary, any_json, any_text, changed, changes, of_schema};

/// How deep values of a schema are.
const SCHEMA_DEPTH: u32 = 5;

/// A request as it goes over the wire.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Body,
}

/// The body.
#[derive(Debug, Clone)]
pub(super) enum Body {
    None,
    /// With its length.
    Whole(Vec<u8>),
    /// In chunks of these sizes, over and over.
    Chunked(Vec<u8>, Vec<usize>),
    /// With its length, and no more of it than so many bytes.
    Cut(Vec<u8>, usize),
    /// Said to be chunked, which it is not.
    NoChunks(Vec<u8>),
}

impl Sent {
    pub(super) fn get(path: &str) -> Self {
        let (method, target) = ("GET".to_owned(), path.to_owned());
        Self { method, target, headers: Vec::new(), body: Body::None }
    }

    /// All of the body, if it comes whole.
    pub(super) fn whole_body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::None => Some(&[]),
            Body::Whole(bytes) | Body::Chunked(bytes, _) => Some(bytes),
            Body::Cut(..) | Body::NoChunks(_) => None,
        }
    }

    /// Where it ends is beyond doubt, so nothing but an answer will do.
    pub(super) fn is_framed(&self) -> bool {
        let is_odd = |(name, value): &(String, Vec<u8>)| {
            ["Content-Length", "Transfer-Encoding"].contains(&name.as_str())
                || value.iter().any(|byte| b"\r\n".contains(byte))
        };
        self.whole_body().is_some() && !self.headers.iter().any(is_odd)
    }

    /// Its head and body in bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            bytes.extend_from_slice(b"Host: pool\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        let length = |length: usize| format!("Content-Length: {length}\r\n\r\n").into_bytes();
        match &self.body {
            Body::None => bytes.extend_from_slice(b"\r\n"),
            Body::Whole(body) => bytes.extend([length(body.len()), body.clone()].concat()),
            Body::Cut(body, left) => {
                let left = left % (body.len() + 1);
                bytes.extend([length(body.len() + 1), body[..left].to_vec()].concat());
            }
            Body::NoChunks(body) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                bytes.extend_from_slice(body);
            }
            Body::Chunked(body, sizes) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                let (mut rest, mut sizes) = (&body[..], sizes.iter().cycle());
                while !rest.is_empty() {
                    let size = sizes.next().map_or(rest.len(), |size| (*size).min(rest.len()));
                    let (chunk, after) = rest.split_at(size);
                    bytes.extend([format!("{size:x}\r\n").as_bytes(), chunk, b"\r\n"].concat());
                    rest = after;
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// All kinds of requests to an operation.
pub(super) fn requests(
    operation: &Operation,
    description: &Description,
    dictionary: &Dictionary,
) -> BoxedStrategy<Sent> {
    let body = match operation.takes_body() {
        true => bodies(operation, description, dictionary),
        false => prop_oneof![
            4 => Just((None, Body::None)),
            1 => vec(any::<u8>(), 0..100).prop_map(|bytes| (None, Body::Whole(bytes))),
        ]
        .boxed(),
    };
    (method(operation), target(operation), headers(operation), body)
        .prop_map(|(method, target, mut headers, (kind, body))| {
            headers.extend(kind.map(|kind| ("Content-Type".to_owned(), kind.into_bytes())));
            Sent { method, target, headers, body }
        })
        .boxed()
}

/// Heads that show no token, or something like one.
pub(super) fn heads(operation: &Operation) -> BoxedStrategy<Sent> {
    let almost = ["Bearer", "Bearer ", "bearer 0123456789abcdef-pool-toke", "Basic OnBvb2w=", ""];
    let shown = prop_oneof![
        select(almost.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        field_value(),
    ];
    let shown = vec(shown, 0..3);
    (method(operation), target(operation), headers(operation), shown)
        .prop_map(|(method, target, mut headers, shown)| {
            headers.extend(shown.into_iter().map(|text| ("Authorization".to_owned(), text)));
            Sent { method, target, headers, body: Body::None }
        })
        .boxed()
}

fn method(operation: &Operation) -> impl Strategy<Value = String> + use<> {
    let others =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "X-Y"];
    let own = operation.method.clone();
    prop_oneof![12 => Just(own), 1 => select(others.to_vec()).prop_map(str::to_owned)]
}

/// The path, mostly as it is, with parameters that it has and that it has not.
fn target(operation: &Operation) -> impl Strategy<Value = String> + use<> {
    let path = operation.path.clone();
    let ends = ["/", "//", "/../..", "%00", "%2e%2e", "%", ";a=b", "/%ff%fe", "?", "#"];
    let path = prop_oneof![
        14 => Just(path.clone()),
        1 => select(ends.to_vec()).prop_map(move |end| format!("{path}{end}")),
    ];
    let mut names = operation.query.clone();
    names.extend(["unknown".to_owned(), String::new()]);
    let value = prop_oneof![
        any_text().prop_map(|text| text.bytes().take(200).map(|b| format!("%{b:02x}")).collect()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<(u32, u64)>().prop_map(|(entry, tag)| format!("{entry}-{tag:016x}")),
        select(vec!["", "0", "1", "-1", "%zz", "1e3", "latest"]).prop_map(str::to_owned),
    ];
    let query = vec((select(names), value), 0..3);
    let rarely = if operation.query.is_empty() { 1 } else { 8 };
    let query = prop_oneof![8 => Just(Vec::new()), rarely => query];
    (path, query).prop_map(|(path, query)| {
        let query: Vec<_> =
            query.into_iter().map(|(k, v): (String, String)| k + "=" + &v).collect();
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    })
}

/// Bytes that a field of a head may hold.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let visible = |byte: u8| byte >= b' ' && byte != 0x7f;
    prop_oneof![
        4 => vec(any::<u8>(), 0..60)
            .prop_map(move |bytes| bytes.into_iter().filter(|byte| visible(*byte)).collect()),
        1 => (100usize..9_000).prop_map(|length| vec![b'k'; length]),
        // A head that ends there, or is none.
        1 => vec(any::<u8>(), 0..20),
    ]
}

/// Fields that the operation knows, and that mean something to HTTP.
fn headers(operation: &Operation) -> impl Strategy<Value = Vec<(String, Vec<u8>)>> + use<> {
    let known = operation.headers.clone();
    let common = [
        "Accept",
        "Accept-Encoding",
        "Content-Encoding",
        "Content-Type",
        "Content-Length",
        "Expect",
        "Connection",
        "Host",
        "Origin",
        "Range",
        "If-None-Match",
        "Transfer-Encoding",
        "Upgrade",
        "Idempotency-Key",
        "Last-Event-ID",
        "Cookie",
        "X-Forwarded-For",
        "TE",
        "Trailer",
    ];
    let names: Vec<String> = common.iter().map(|name| (*name).to_owned()).chain(known).collect();
    let values = [
        "gzip",
        "100-continue",
        "close",
        "keep-alive",
        "chunked",
        "gzip, chunked",
        "identity",
        "*/*",
        "text/html",
        "0",
        "7",
        "-1",
        "bytes=0-1",
        "h2c",
        "localhost",
        "evil.example",
        "\"x\"",
        "application/json",
        "application/x-ndjson; charset=latin1",
        "0000000000000000-1",
        "key-1",
    ];
    let value = prop_oneof![
        3 => select(values.to_vec()).prop_map(|value| value.as_bytes().to_vec()),
        1 => field_value(),
    ];
    let some = vec((select(names), value), 1..4);
    prop_oneof![3 => Just(Vec::new()), 2 => some]
}

/// Bodies, each with the type that it is said to have.
fn bodies(
    operation: &Operation,
    description: &Description,
    dictionary: &Dictionary,
) -> BoxedStrategy<(Option<String>, Body)> {
    let mut kinds = Vec::new();
    for (kind, schema) in &operation.bodies {
        // A stream has lines of what the other body is; a description of its own it has none.
        let schema = match kind.as_str() {
            "application/x-ndjson" => {
                let json = operation.bodies.iter().find(|(kind, _)| kind == "application/json");
                json.map_or(schema, |(_, schema)| schema)
            }
            _ => schema,
        };
        let made = of_schema("", schema, description, dictionary, SCHEMA_DEPTH);
        let good = select(dictionary.good.clone());
        let nearly = (prop_oneof![made, good], changes()).prop_map(|(v, c)| changed(v, c));
        let value = prop_oneof![4 => nearly, 1 => any_json()].boxed();
        let bytes = match kind.as_str() {
            "application/x-ndjson" => lines(value).boxed(),
            _ => (value, damage()).prop_map(|(v, d)| damaged(v.to_string().into(), &d)).boxed(),
        };
        let odd = prop_oneof![
            vec(any::<u8>(), 0..300),
            // Above every bound, and deeper than anybody reads.
            Just(vec![b' '; 1024 * 1024 + 1]),
            (1usize..100_000).prop_map(|depth| b"[".repeat(depth)),
            (1usize..100_000).prop_map(|depth| b"{\"a\":".repeat(depth)),
        ];
        let other = operation.bodies.iter().map(|(kind, _)| kind.clone());
        let other: Vec<_> =
            other.chain(["text/plain".into(), "application/jsonx".into()]).collect();
        let said = prop_oneof![
            14 => Just(Some(kind.clone())),
            1 => Just(None),
            1 => select(other).prop_map(Some),
        ];
        let bytes = prop_oneof![9 => bytes, 1 => odd];
        kinds.push((said, (bytes, way()).prop_map(|(bytes, way)| way.of(bytes))).boxed());
    }
    proptest::strategy::Union::new(kinds).boxed()
}

/// Lines of values, with what is no line among them.
fn lines(value: BoxedStrategy<Value>) -> impl Strategy<Value = Vec<u8>> {
    let odd: Vec<&[u8]> =
        vec![b"", b"\r", b" ", b"\0", b"{}", b"null", b"\xff\xfe", b"[", b"\"\\u0000\""];
    let line = prop_oneof![
        6 => (value, damage()).prop_map(|(v, d)| damaged(v.to_string().into(), &d)),
        2 => select(odd).prop_map(<[u8]>::to_vec),
        1 => prop_oneof![4_000usize..4_200, 4_096usize..4_098].prop_map(|length| vec![b'x'; length]),
    ];
    let ends = select(vec!["\n", "\r\n", "\n\n"]);
    (vec((line, ends), 0..12), any::<bool>()).prop_map(|(lines, open)| {
        let mut bytes: Vec<u8> = lines
            .into_iter()
            .flat_map(|(line, end)| [&line[..], end.as_bytes()].concat())
            .collect();
        // Without the last end.
        if open {
            bytes.pop();
        }
        bytes
    })
}

/// What happens to the bytes of a text.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Cut(Index),
    Put(Index, Vec<u8>),
    Flip(Index, u8),
    Twice,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => Just(Damage::None),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Damage::Put(at, bytes)),
        1 => any::<Index>().prop_map(|at| Damage::Put(at, vec![0])),
        1 => (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => Just(Damage::Twice),
    ]
}

fn damaged(mut text: Vec<u8>, damage: &Damage) -> Vec<u8> {
    match damage {
        Damage::None => {}
        Damage::Cut(at) => text.truncate(at.index(text.len() + 1)),
        Damage::Put(at, bytes) => {
            let at = at.index(text.len() + 1);
            text.splice(at..at, bytes.iter().copied());
        }
        Damage::Flip(at, bits) if !text.is_empty() => {
            let at = at.index(text.len());
            text[at] ^= bits;
        }
        Damage::Flip(..) => {}
        Damage::Twice => text.extend(text.clone()),
    }
    text
}

/// How bytes are sent.
#[derive(Debug, Clone)]
enum Way {
    Whole,
    Chunked(Vec<usize>),
    Cut(usize),
    NoChunks,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        6 => Just(Way::Whole),
        4 => vec(1usize..600, 1..6).prop_map(Way::Chunked),
        1 => any::<u16>().prop_map(|left| Way::Cut(left.into())),
        1 => Just(Way::NoChunks),
    ]
}

impl Way {
    fn of(self, bytes: Vec<u8>) -> Body {
        match self {
            Self::Whole => Body::Whole(bytes),
            Self::Chunked(sizes) => Body::Chunked(bytes, sizes),
            Self::Cut(left) => Body::Cut(bytes, left),
            Self::NoChunks => Body::NoChunks(bytes),
        }
    }
}
