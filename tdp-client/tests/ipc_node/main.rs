//! The IPC source against a real Bitcoin Core, without any RPC beside it: state, tip, templates, and
//! blocks handed in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a test's answer")]

#[path = "../all/mod.rs"]
mod all;
mod trouble;

use std::sync::Arc;

use bitcoin::Network;
use signet::{Node, NodeOptions};
use tdp_client::{IpcSettings, Node as Source, Proposal, TxLookup};

use self::all::*;

/// What the node is asked to wait for a block with.
const WAIT_METHOD: &str = "waitTipChanged";

/// What the node says of a block that it has, proposed: it is no longer on top of the tip.
fn proposal_of_known() -> Proposal {
    Proposal::NotJudged { reason: "inconclusive-not-best-prevblk".into() }
}

/// How the nodes of all tests are started.
fn options() -> NodeOptions {
    NodeOptions::regtest().ipc()
}

/// How we reach a node of the harness.
fn settings(node: &Node) -> IpcSettings {
    IpcSettings {
        name: "main".into(),
        socket: node.ipc_socket(),
        network: node.chain().network(),
        rpc: None,
    }
}

/// Follows a node.
fn spawn(node: &Node, lookup: TxLookup) -> Source {
    Source::spawn_ipc(settings(node), lookup).expect("these settings can be used")
}

/// Follows a node without knowing any transaction beforehand.
fn follow(settings: IpcSettings) -> Source {
    Source::spawn_ipc(settings, Arc::new(|_| None)).expect("these settings can be used")
}
