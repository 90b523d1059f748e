//! Peers that break the protocol: their own connection ends, nobody else notices.

use jds::client::ClientError;
use jds::client::templates::TemplateClient;
use jds_tests::World;
use jds_wire::message::constants as c;
use jds_wire::message::template::{RequestTransactionData, SubmitSolution, TemplateClientMessage};

use crate::client::{Client, SIZE, connect, options, setup};

async fn refused(world: &World, protocol: u8, versions: (u16, u16), flags: u32) -> String {
    let address = world.server.template_addr().unwrap();
    let mut set = options();
    (set.min_version, set.max_version, set.other_flags) = (versions.0, versions.1, flags);
    let key = Some(world.authority);
    let mut client = TemplateClient::connect_only(address, key, set.timeout).await.unwrap();
    let refused = client.set_up(&set, protocol).await.unwrap_err();
    client.wait_closed().await.unwrap();
    match refused {
        ClientError::SetupRefused { error_code, .. } => error_code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_ends_alone() {
    let world = setup().start().await;
    let mut witness = Client::connect(&world, SIZE).await;

    let own = c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT;
    let mining = c::SV2_MINING_PROTOCOL_DISCRIMINANT;
    assert_eq!(refused(&world, mining, (2, 2), 0).await, "unsupported-protocol");
    assert_eq!(refused(&world, 99, (2, 2), 0).await, "unsupported-protocol");
    assert_eq!(refused(&world, own, (3, 9), 0).await, "protocol-version-mismatch");
    assert_eq!(refused(&world, own, (2, 2), 1).await, "unsupported-feature-flags");

    let request = RequestTransactionData { template_id: 1 };
    let request = TemplateClientMessage::RequestTransactionData(request);
    let solution = TemplateClientMessage::SubmitSolution(SubmitSolution {
        template_id: 1,
        version: 0,
        header_timestamp: 0,
        header_nonce: 0,
        coinbase_tx: b"",
    });
    // Before its constraints; a solution might be one of a connection that broke.
    let mut client = connect(&world).await;
    client.send(&solution).await.unwrap();
    client.send(&request).await.unwrap();
    client.wait_closed().await.unwrap();
    // Work for a new room each time, and no answer read.
    let mut client = Client::connect(&world, SIZE).await;
    for size in 0..200 {
        client.wire.constrain(size * 4_000, 0).await.unwrap();
    }
    client.transactions().await;
    // Before its set-up.
    let address = world.server.template_addr().unwrap();
    let mut client =
        TemplateClient::connect_only(address, Some(world.authority), options().timeout)
            .await
            .unwrap();
    client.constrain(0, 0).await.unwrap();
    client.wait_closed().await.unwrap();
    // Outputs that no block holds.
    let mut client = connect(&world).await;
    client.constrain(u32::MAX, u16::MAX).await.unwrap();
    client.wait_closed().await.unwrap();

    // Frames that are no messages, too large, or of another protocol.
    for (msg_type, payload) in [
        (c::MESSAGE_TYPE_SUBMIT_SOLUTION, vec![0; 5]),
        (c::MESSAGE_TYPE_SUBMIT_SOLUTION, vec![0; 70_000]),
        (c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, vec![0; 9]),
        (c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, vec![0; 3_000]),
        (c::MESSAGE_TYPE_NEW_TEMPLATE, vec![0; 100]),
        (c::MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, vec![0; 5]),
        (0xee, Vec::new()),
    ] {
        let mut client = Client::connect(&world, SIZE).await;
        // It may be closed before all of a large frame was sent.
        let _ = client.wire.send_raw_frame(0, msg_type, &payload).await;
        client.wire.wait_closed().await.unwrap();
    }
    // An extension that nobody negotiated is ignored, however large its message.
    witness.wire.send_raw_frame(0x77, 1, &vec![0; 100_000]).await.unwrap();

    let tip = world.node().mine_block(&[]).unwrap();
    witness.until("the new tip", |client| client.is_on(&tip)).await;
    assert!(witness.transactions().await.is_empty());
    world.assert_still_serving().await;
}
