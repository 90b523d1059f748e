//! The line between server and node is cut as networks are: nothing closes, nothing arrives.

use std::net::SocketAddr;

use jds_tests::proxy::Proxy;

use crate::OVER_RPC;
use crate::several::{Pair, nodes, ready};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_a_cut_line_is_covered_by_the_other_and_taken_back() {
    let nodes = nodes();
    let target: SocketAddr = nodes[OVER_RPC].rpc_url()["http://".len()..].parse().unwrap();
    let proxy = Proxy::to(target);
    let setup = crate::setup().rpc_at(OVER_RPC, proxy.address());
    let mut pair = Pair::start_on(setup, nodes).await;
    let other = 1 - OVER_RPC;
    for _ in 0..2 {
        proxy.cut();
        // Of the other, which hears of the block, too; then of this one, which the server can not ask.
        pair.mines(other).await;
        ready(&pair.world, OVER_RPC, false).await;
        pair.comes_from(other);
        pair.in_step();
        pair.mines(OVER_RPC).await;
        pair.in_step();
        pair.stands(OVER_RPC, "unreachable");

        proxy.heal();
        pair.stands(OVER_RPC, "at_tip");
        pair.comes_from(0);
    }
    pair.works().await;
}
