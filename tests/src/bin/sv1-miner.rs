//! `sv1-miner ADDRESS USER`: mines on a processor over Stratum V1, until it is killed or the server
//! leaves. For tests, where no other miner is installed.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a miner for tests: what it says is its log"
)]

use jds_tests::sv1::{Closed, Sv1Client, is_share};
use serde_json::json;

/// Nonces between two looks at the line.
const NONCES: u32 = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(user)) = (arguments.next(), arguments.next()) else {
        println!("usage: sv1-miner ADDRESS USER");
        std::process::exit(2);
    };
    let address = address.parse().expect("an IP address and a port");
    let mut client = Sv1Client::mining(address, &user).await;
    println!("subscribed, difficulty {}", client.difficulty);
    if mine(&mut client, &user).await == Err(Closed) {
        println!("the server closed the connection");
    }
}

async fn mine(client: &mut Sv1Client, user: &str) -> Result<(), Closed> {
    for extranonce2 in 0_u64.. {
        // An answer to a request of ours says that all before it was read.
        let pong = client.ask("mining.ping", json!([])).await?;
        assert!(pong.is_ok(), "{pong:?}");
        let job = client.job.clone().expect("a job");
        let bytes = client.extranonce2_bytes;
        if let Some(share) = job.mine(extranonce2, bytes, None, NONCES, is_share) {
            let id = client.submit(user, &share).await;
            match client.answer(id).await? {
                Ok(_) => println!("accepted {}", share.header.block_hash()),
                Err((code, text)) => println!("refused ({code}) {text}"),
            }
        }
    }
    Ok(())
}
