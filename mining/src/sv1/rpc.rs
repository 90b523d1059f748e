//! JSON-RPC as Stratum V1 has it: one message a line, ids of any kind.
#![deny(clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::refusal::Refusal;

/// What a line of a client is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Incoming {
    /// It asks for something.
    Request(Request),
    /// An answer to something that we asked, which nothing depends on.
    Answer,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Given back as it came; absent when no answer is wanted.
    pub(super) id: Option<Value>,
    pub(super) method: String,
    /// Empty when there are none.
    pub(super) params: Vec<Value>,
}

/// Why a line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoMessage {
    #[error("a line that is not JSON")]
    NotJson,
    #[error("a line that is no JSON object with a method or a result")]
    NoRequest,
    #[error("a request whose params are no array")]
    Params,
}

impl Incoming {
    /// Reads a line, without its end. The caller bounds its length, and with it all that is
    /// allocated here: the parser goes no deeper than 128 levels.
    ///
    /// # Errors
    /// [`NoMessage`].
    pub(super) fn parse(line: &[u8]) -> Result<Self, NoMessage> {
        let value: Value = serde_json::from_slice(line).map_err(|_| NoMessage::NotJson)?;
        let Value::Object(mut message) = value else {
            return Err(NoMessage::NoRequest);
        };
        let Some(Value::String(method)) = message.remove("method") else {
            let answer = message.contains_key("result") || message.contains_key("error");
            return if answer { Ok(Self::Answer) } else { Err(NoMessage::NoRequest) };
        };
        let params = match message.remove("params") {
            Some(Value::Array(params)) => params,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(NoMessage::Params),
        };
        Ok(Self::Request(Request { id: message.remove("id"), method, params }))
    }
}

/// The line that answers a request. Members stand in the order that miners are used to.
pub(super) fn answer(id: &Value, outcome: Result<Value, Refusal>) -> String {
    let (result, error) = match outcome {
        Ok(result) => (result, Value::Null),
        Err(Refusal { code, message }) => (Value::Null, json!([code, message, null])),
    };
    format!("{{\"id\":{id},\"result\":{result},\"error\":{error}}}\n")
}

/// The line of something that the client did not ask for. `method` is a plain name.
pub(super) fn notification(method: &str, params: &Value) -> String {
    format!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(line: &str) -> Request {
        match Incoming::parse(line.as_bytes()) {
            Ok(Incoming::Request(request)) => request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_id_of_any_kind_comes_back() {
        for id in ["1", "-7", "1.5", "\"s\"", "null", "[1,{\"a\":null}]", "{\"x\":[]}", "true"] {
            let read =
                request(&format!("{{\"id\":{id},\"method\":\"mining.ping\",\"params\":[]}}"));
            let line = answer(&read.id.unwrap(), Ok(json!(true)));
            assert_eq!(line, format!("{{\"id\":{id},\"result\":true,\"error\":null}}\n"));
        }
        assert_eq!(request(r#"{"method":"a"}"#).id, None);
    }

    #[test]
    fn refusals_are_arrays_of_three() {
        let line = answer(&json!(4), Err(Refusal::unauthorized("Unauthorized worker")));
        let read: sv1_api::Message = serde_json::from_str(&line).unwrap();
        let sv1_api::Message::ErrorResponse(response) = read else { panic!("{line}") };
        let error = response.error.unwrap();
        assert_eq!((error.code, error.message.as_str()), (24, "Unauthorized worker"));
        assert!(line.contains(r#"[24,"Unauthorized worker",null]"#), "{line}");
    }

    #[test]
    fn params_may_be_left_out_but_are_no_object() {
        assert_eq!(request(r#"{"id":1,"method":"a"}"#).params, Vec::<Value>::new());
        assert_eq!(request(r#"{"id":1,"method":"a","params":null}"#).params, Vec::<Value>::new());
        let parse = |line: &str| Incoming::parse(line.as_bytes());
        assert_eq!(parse(r#"{"method":"a","params":{}}"#), Err(NoMessage::Params));
        assert_eq!(parse(r#"{"id":3,"result":true,"error":null}"#), Ok(Incoming::Answer));
        assert_eq!(parse("[]"), Err(NoMessage::NoRequest));
        assert_eq!(parse("{}"), Err(NoMessage::NoRequest));
        assert_eq!(parse("GET / HTTP/1.1\r"), Err(NoMessage::NotJson));
        assert_eq!(parse(""), Err(NoMessage::NotJson));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_the_end_of_the_stack() {
        let deep = format!("{{\"id\":{}", "[".repeat(8_000));
        assert_eq!(Incoming::parse(deep.as_bytes()), Err(NoMessage::NotJson));
    }

    proptest! {
        #[test]
        fn no_line_ends_the_process(line in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Incoming::parse(&line);
        }
    }
}
