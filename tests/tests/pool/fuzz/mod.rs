//! Whatever comes to the pool interface is answered: by what is described, or by a typed error. What
//! is asked is made of the interface's own description, so a route that is added is asked, too; what
//! is put in are bytes, JSON of any kind, requests that are nearly good, and broken HTTP around them.
//! Real node, real store; an honest request after each.

mod operation;
mod requests;
mod values;
mod wire;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use jds_tests::Setup;
use jds_tests::pool::Pool;
use jds_tests::rig::{by_receipt, solution};

use crate::worlds::{Site, counted, rig, submit, verify};
use operation::{Description, Operation};
use requests::{Sent, requests};
use values::Dictionary;
use wire::{Answer, Line};

/// Requests for each operation and round; more with `PROPTEST_CASES`.
const CASES: u32 = 80;

/// Rounds of the operations that take a body. A block that is found on the way ends the jobs of its
/// round.
const ROUNDS: u32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_is_answered_and_whoever_is_honest_is_served() {
    // What waits for a block that nobody finds waits no longer than this.
    let site = Site::start(Setup::new().job_declaration("tip_grace_ms = 20")).await;
    let description = Description::of(&mut site.pool());
    let operations = description.operations();
    let under_pool = operations.iter().filter(|operation| operation.path.starts_with("/v1/pool/"));
    assert!(under_pool.count() >= 6, "fewer routes than there ever were: {operations:?}");
    for round in 0..ROUNDS {
        let dictionary = dictionary(&site, round).await;
        for operation in operations.iter().filter(|operation| round == 0 || operation.takes_body())
        {
            ask(&site, &description, operation, &dictionary);
        }
        site.world.synced().await;
    }
    let receipt = site.receipt("honest").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    counted(&submit(&mut pool, &rig.mine(false).json));
}

/// Values that mean something at the moment.
async fn dictionary(site: &Site, round: u32) -> Dictionary {
    let receipt = site.receipt(&format!("fuzz{round}")).await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let (one, two) = (rig.mine(false).json, rig.mine(false).json);
    let mut dictionary = Dictionary::default();
    let job = verify(&mut pool, &receipt)["job"].clone();
    for value in [&job, &one, &two, &by_receipt(&one, &receipt), &pool.get("/v1/pool/tip").json()] {
        dictionary.add(value);
    }
    let names = json!({ "connection": "", "user": "alice.rig1", "worker": "rig1" });
    dictionary.add(&names);
    dictionary.add(&json!({ "token": by_receipt(&one, &receipt)["receipt"] }));
    dictionary.good = vec![one.clone(), by_receipt(&two, &receipt), solution(&one), json!([one])];
    dictionary.good.push(json!({ "token": by_receipt(&one, &receipt)["receipt"] }));
    dictionary
}

/// Asks one operation all kinds of things.
fn ask(site: &Site, description: &Description, operation: &Operation, dictionary: &Dictionary) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(CASES);
    let config =
        Config { failure_persistence: None, max_shrink_iters: 200, cases, ..Config::default() };
    let requests = requests(operation, description, dictionary);
    let asked = TestRunner::new(config).run(&requests, |sent| {
        let (answer, next) = wire::exchange(&site.socket, &sent)?;
        if let Some(answer) = answer {
            described(description, operation, &sent, &answer)?;
        }
        honest(&site.socket, next)
    });
    if let Err(error) = asked {
        panic!("{} {}: {error}", operation.method, operation.path);
    }
}

/// The next request is served as if nothing had been; on the same connection where that goes on.
fn honest(socket: &std::path::Path, next: Option<Line>) -> Result<(), TestCaseError> {
    let tip = Sent::get("/v1/pool/tip");
    // A server may end a connection between two requests.
    let same = next.and_then(|line| line.exchange(&tip).ok()).and_then(|(answer, _)| answer);
    let answer = match same {
        Some(answer) => Some(answer),
        None => wire::exchange(socket, &tip)?.0,
    };
    let answer = answer.ok_or_else(|| TestCaseError::fail("no answer to an honest request"))?;
    prop_assert_eq!(answer.status, 200, "an honest request: {}", answer.text());
    Ok(())
}

/// The answer is one of those that are described.
fn described(
    description: &Description,
    operation: &Operation,
    sent: &Sent,
    answer: &Answer,
) -> Result<(), TestCaseError> {
    let text = answer.text();
    if answer.status >= 400 {
        prop_assert!(answer.status < 500 || answer.status == 503, "{} {text}", answer.status);
        prop_assert_eq!(answer.content_type.as_str(), "application/problem+json", "{}", &text);
        if sent.method == "HEAD" {
            return Ok(());
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = problem["type"].as_str().unwrap_or_default();
        prop_assert!(
            description.problems.iter().any(|known| known == kind),
            "{kind:?} in {text:?}"
        );
        prop_assert_eq!(&problem["status"], answer.status);
        prop_assert!(problem["detail"].is_string() && problem["title"].is_string(), "{text}");
        return Ok(());
    }
    prop_assert_eq!(answer.status, 200, "{}", &text);
    let known = operation.answers.contains(&answer.content_type);
    prop_assert!(known, "{} is not described", answer.content_type);
    match answer.content_type.as_str() {
        "application/json" if sent.method != "HEAD" => {
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            results(&value)
        }
        "application/x-ndjson" => {
            for line in text.lines() {
                results(&serde_json::from_str(line).unwrap_or_default())?;
            }
            lines(sent, &text)
        }
        _ => Ok(()),
    }
}

/// What is said of a share, a solution or a job is a yes, or a code.
fn results(value: &Value) -> Result<(), TestCaseError> {
    prop_assert!(value.is_object() || value.is_array(), "{value}");
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    for result in all {
        let verdict = result.get("valid").or_else(|| result.get("accepted"));
        if let Some(verdict) = verdict {
            let code = result["code"].as_str().unwrap_or_default();
            let is_code = |text: &str| {
                !text.is_empty() && text.bytes().all(|b| b == b'-' || b.is_ascii_lowercase())
            };
            prop_assert_eq!(verdict == &Value::Bool(true), code.is_empty(), "{}", result);
            prop_assert!(code.is_empty() || is_code(code), "{result}");
        }
    }
    Ok(())
}

/// Each line of a stream has its own answer, in as far as the stream was whole.
fn lines(sent: &Sent, answers: &str) -> Result<(), TestCaseError> {
    let Some(body) = sent.whole_body().filter(|_| sent.is_framed()) else { return Ok(()) };
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let answered = answers.lines().count();
    if answers.contains("line-too-long") {
        // It may be a blank one.
        prop_assert!(answered <= lines.count() + 1);
    } else {
        prop_assert_eq!(answered, lines.count());
    }
    Ok(())
}

/// Heads of requests over TCP: nobody gets past the token.
#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_no_head_of_a_request_stands_for_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (world, socket) = crate::access::world(dir.path()).await;
    let address = world.server.pool_addr().unwrap();
    let description = Description::of(&mut Pool::at(&socket));
    for operation in description.operations() {
        let config = Config { failure_persistence: None, cases: CASES, ..Config::default() };
        let asked = TestRunner::new(config).run(&requests::heads(&operation), |sent| {
            let answer = wire::over_tcp(address, &sent)?;
            let refused = matches!(answer.status, 400..=499);
            prop_assert!(refused, "{} {}", answer.status, answer.text());
            let is_problem = answer.content_type == "application/problem+json";
            prop_assert!(is_problem, "{}", answer.text());
            Ok(())
        });
        if let Err(error) = asked {
            panic!("{} {}: {error}", operation.method, operation.path);
        }
    }
    let bearer = format!("Bearer {}", crate::access::TOKEN);
    let shown = [("Authorization", bearer.as_str())];
    assert_eq!(jds_tests::http::request(address, "GET", "/v1/pool/tip", &shown, "").status, 200);
}
