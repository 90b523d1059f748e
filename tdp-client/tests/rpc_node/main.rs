//! The RPC source against a real Bitcoin Core: state, tip, templates, and blocks handed in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a test's answer")]

#[path = "../all/mod.rs"]
mod all;
mod follow;
mod syncing;
mod trouble;

use std::sync::Arc;

use bitcoin::Network;
use signet::{Node, NodeOptions};
use tdp_client::{Auth, Node as Source, NodeSettings, Proposal, TxLookup};

use self::all::*;

/// How we reach a node of the harness.
fn settings(node: &Node) -> NodeSettings {
    NodeSettings {
        name: "main".into(),
        rpc_url: node.rpc_url(),
        auth: Auth::CookieFile(node.cookie_file()),
        network: node.chain().network(),
    }
}

/// What the node is asked to wait for a block with.
const WAIT_METHOD: &str = "waitfornewblock";

/// What the node says of a block that it has, proposed.
fn proposal_of_known() -> Proposal {
    Proposal::Valid
}

/// How the nodes of all tests are started.
fn options() -> NodeOptions {
    NodeOptions::regtest()
}

/// Follows a node.
fn spawn(node: &Node, lookup: TxLookup) -> Source {
    Source::spawn(settings(node), lookup).expect("these settings can be used")
}

/// Follows a node without knowing any transaction beforehand.
fn follow(settings: NodeSettings) -> Source {
    Source::spawn(settings, Arc::new(|_| None)).expect("these settings can be used")
}

const REGTEST: Network = Network::Regtest;
