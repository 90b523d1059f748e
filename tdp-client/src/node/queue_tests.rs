//! Each kind of call to a node has a queue of its own: full, it turns away what is beyond, and holds up
//! no other.

use std::io::Write as _;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Waker};

use super::tests::take_request;
use super::*;
use crate::settings::Auth;

const PATIENCE: Duration = Duration::from_secs(60);

/// A node over RPC, which takes each block and knows each header.
fn over_rpc() -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = NodeSettings {
        name: "main".into(),
        rpc_url: format!("http://{}", listener.local_addr().unwrap()),
        auth: Auth::UserPass { user: "u".into(), password: "p".into() },
        network: Network::Regtest,
    };
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let request = String::from_utf8(take_request(&stream)).unwrap();
            let about_a_block = request.contains("submitblock") || request.contains("proposal");
            let header = r#"{"height":7,"confirmations":-1}"#;
            let result = if about_a_block { "null" } else { header };
            let body = format!(r#"{{"result":{result},"error":null,"id":1}}"#);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever asked may have gone.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    Node::spawn(settings, Arc::new(|_| None)).unwrap()
}

/// Holds the threads of a lane until what it gives is dropped.
fn hold(lane: &Lane, threads: usize) -> Vec<Sender<()>> {
    let mut held = Vec::new();
    for _ in 0..threads {
        let (open, gate) = channel::<()>();
        let (taken, is_taken) = channel();
        let call = lane.run("held", Worth::Doing, move |_| {
            taken.send(()).unwrap();
            let _ = gate.recv();
        });
        assert!(poll(&mut Box::pin(call)).is_pending());
        is_taken.recv_timeout(PATIENCE).unwrap();
        held.push(open);
    }
    held
}

fn poll<F: Future>(call: &mut Pin<Box<F>>) -> Poll<F::Output> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Makes calls that wait until one does not; those, and what that one got.
async fn fill<F: Future>(ask: impl Fn() -> F) -> (Vec<Pin<Box<F>>>, F::Output) {
    let mut waiting = Vec::new();
    loop {
        let mut call = Box::pin(ask());
        match poll(&mut call) {
            Poll::Pending => waiting.push(call),
            Poll::Ready(answer) => return (waiting, answer),
        }
        assert!(waiting.len() < 1_000, "nothing is turned away");
        // The runtime lets nobody be polled without end.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn proposals_beyond_the_queue_are_turned_away_and_nothing_else_is() {
    let node = over_rpc();
    let hash = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
    let held = hold(&node.inner.proposals, 1);
    let (waiting, refused) = fill(|| node.propose_block("00".into())).await;
    assert_eq!(waiting.len(), PROPOSAL_QUEUE_MAX);
    let Proposal::Transient { error } = refused else { panic!("{refused:?}") };
    let full = Fault::Overloaded { method: "block proposal", waiting: PROPOSAL_QUEUE_MAX };
    assert_eq!(*error.fault(), full);
    assert_eq!(node.submit_block(Arc::new([0]), None).await, SubmitOutcome::Accepted);
    assert_eq!(node.block_status(hash).await, Ok(BlockStatus::Known { height: 7 }));
    drop(held);
    for call in waiting {
        assert_eq!(call.await, Proposal::Valid);
    }
}

#[tokio::test]
async fn questions_beyond_the_queue_are_turned_away_and_nothing_else_is() {
    let node = over_rpc();
    let hash = bitcoin::constants::genesis_block(Network::Regtest).block_hash();
    let held = hold(&node.inner.questions, 1);
    let (waiting, refused) = fill(|| node.block_status(hash)).await;
    assert_eq!(waiting.len(), ASK_QUEUE_MAX);
    let full = Fault::Overloaded { method: "getblockheader", waiting: ASK_QUEUE_MAX };
    assert_eq!(*refused.unwrap_err().fault(), full);
    assert_eq!(node.submit_block(Arc::new([0]), None).await, SubmitOutcome::Accepted);
    assert_eq!(node.propose_block("00".into()).await, Proposal::Valid);
    drop(held);
    for call in waiting {
        assert_eq!(call.await, Ok(BlockStatus::Known { height: 7 }));
    }
}

#[tokio::test]
async fn blocks_beyond_the_queue_are_turned_away_and_those_in_it_are_submitted() {
    let node = over_rpc();
    let held = hold(&node.inner.submissions, SUBMIT_THREADS);
    let (waiting, refused) = fill(|| node.submit_block(Arc::new([0]), None)).await;
    assert_eq!(waiting.len(), SUBMIT_QUEUE_MAX);
    let SubmitOutcome::Transient { error } = refused else { panic!("{refused:?}") };
    let full = Fault::Overloaded { method: "submitblock", waiting: SUBMIT_QUEUE_MAX };
    assert_eq!(*error.fault(), full);
    drop(held);
    for call in waiting {
        assert_eq!(call.await, SubmitOutcome::Accepted);
    }
}

#[tokio::test]
async fn look_ups_beyond_the_queue_are_turned_away() {
    let settings = IpcSettings {
        name: "main".into(),
        socket: "/nonexistent/node.sock".into(),
        network: Network::Regtest,
        rpc: None,
    };
    let node = Node::spawn_ipc(settings, Arc::new(|_| None)).unwrap();
    let held = hold(node.inner.lookups.as_ref().unwrap(), 1);
    let wtxid = bitcoin::constants::genesis_block(Network::Regtest).txdata[0].compute_wtxid();
    let (waiting, refused) = fill(|| node.transactions(vec![wtxid], PATIENCE)).await;
    assert_eq!(waiting.len(), LOOKUP_QUEUE_MAX);
    let method = "getTransactionsByWitnessID";
    let full = Fault::Overloaded { method, waiting: LOOKUP_QUEUE_MAX };
    assert_eq!(*refused.unwrap_err().fault(), full);
    drop(held);
    for call in waiting {
        let error = call.await.unwrap_err();
        assert!(matches!(error.fault(), Fault::NoSocket { .. }), "{error}");
    }
}
