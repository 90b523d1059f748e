//! Requests whose client has gone.

use api::pool::limits::REQUESTS_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::within;
use crate::world::{TOKEN, World, share};

const SHARES: &str = "/v1/pool/shares";

/// Who leaves makes no room for others as long as the work goes on.
#[tokio::test]
async fn requests_with_a_key_have_their_turn_until_they_are_done() {
    let world = World::start().await;
    let body = share();
    for number in 0..REQUESTS_MAX {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!(
            "POST {SHARES} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nIdempotency-Key: {number}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            world.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        world.judging(number + 1).await;
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within("the server to see that", stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    let one_more = world.post_with(SHARES, &[], &body).await;
    assert_eq!((one_more.status, one_more.problem().as_str()), (503, "busy"));
    world.server.release();
    within("the requests to be done", async {
        while world.tip().await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Whoever comes back gets the answer that it left.
    let key = [("Idempotency-Key", "0")];
    let again = world.post_with(SHARES, &key, &body).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
}
