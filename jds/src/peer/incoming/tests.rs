//! Frames that arrive within the budget, in their time and in their turn.

use std::future::pending;

use jds_wire::FrameEncoder;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::*;
use crate::limits::CONNECTION_BYTES_ALLOWED;
use crate::peer::tests::line;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const KIB: usize = 1_024;

/// A connection on which one frame comes.
struct Peer {
    incoming: Incoming<DuplexStream>,
    /// The other end.
    stream: DuplexStream,
    frame: Vec<u8>,
    sent: usize,
    _encoder: FrameEncoder,
}

type Frame = Result<(Event, Permit), Ended>;

impl Peer {
    async fn new(shared: &ByteBudget, payload_bytes: usize) -> Self {
        let ((ours, us), (theirs, mut them)) = line().await;
        let incoming = Incoming::new(ours, us.decoder, shared.clone());
        let frame = them.encoder.encode_parts(0, false, 0x57, &vec![7; payload_bytes]).unwrap();
        Self { incoming, stream: theirs, frame, sent: 0, _encoder: them.encoder }
    }

    /// Sends so many bytes of the frame, all of which are read but what fits the line.
    async fn sends(&mut self, bytes: usize) {
        let Self { incoming, stream, frame, sent, .. } = self;
        tokio::select! {
            _ = incoming.next(|_| Admit::Buffer) => panic!("it is not whole"),
            written = stream.write_all(&frame[*sent..bytes]) => written.unwrap(),
        }
        *sent = bytes;
    }

    /// Sends the rest, and reads to the end of it.
    async fn rest(&mut self) -> Frame {
        let Self { incoming, stream, frame, sent, .. } = self;
        let both = async {
            let sending = async { stream.write_all(&frame[*sent..]).await };
            tokio::join!(incoming.next(|_| Admit::Buffer), sending).0
        };
        timeout(PATIENCE, both).await.expect("waited for the rest of a frame")
    }

    /// Sends all of it, however far that is read.
    fn sends_all(self) -> (Incoming<DuplexStream>, JoinHandle<DuplexStream>) {
        let Self { incoming, mut stream, frame, .. } = self;
        let sending = tokio::spawn(async move {
            // The reader may go.
            let _ = stream.write_all(&frame).await;
            stream
        });
        (incoming, sending)
    }
}

fn bytes(frame: Frame) -> usize {
    match frame.unwrap().0 {
        Event::Frame(frame) => frame.payload.len(),
        other => panic!("{other:?}"),
    }
}

/// Reads until that waits for room.
async fn until_it_waits(incoming: &mut Incoming<DuplexStream>) {
    let began = Instant::now();
    while incoming.frame.as_ref().is_none_or(|arriving| arriving.taking.is_none()) {
        let reading = timeout(Duration::from_millis(1), incoming.next(|_| Admit::Buffer));
        assert!(reading.await.is_err(), "it is not whole");
        assert!(began.elapsed() < PATIENCE, "waited for a frame to need more room");
    }
}

#[tokio::test]
async fn a_frame_has_time_by_its_size_and_no_more() {
    let second = FRAME_BYTES_PER_SECOND_MIN as usize;
    assert_eq!(frame_time(second - 1), FRAME_TIMEOUT);
    let payload_bytes = 3 * second;
    let time = FRAME_TIMEOUT + Duration::from_secs(3);
    assert_eq!(frame_time(payload_bytes), time);

    let mut peer = Peer::new(&ByteBudget::new(KIB * KIB), payload_bytes).await;
    let before = Instant::now();
    peer.sends(peer.frame.len() - 1).await;
    let arriving = peer.incoming.frame.as_mut().unwrap();
    assert!(arriving.deadline >= before + time && arriving.deadline <= Instant::now() + time);
    arriving.deadline = Instant::now();
    let ended = peer.incoming.next(|_| Admit::Buffer).await;
    assert!(matches!(ended, Err(Ended::FrameTimeout)), "{ended:?}");

    let mut peer = Peer::new(&ByteBudget::new(KIB * KIB), payload_bytes).await;
    peer.sends(peer.frame.len() - 1).await;
    assert_eq!(bytes(peer.rest().await), payload_bytes, "in its time");
}

#[tokio::test]
async fn no_more_of_a_frame_is_held_than_there_is_room_for() {
    let shared = ByteBudget::new(KIB * KIB);
    let greedy = ConnectionBudget::new(shared.clone());
    let all = greedy.take(CONNECTION_BYTES_ALLOWED + KIB * KIB).await;
    let beyond = timeout(PATIENCE, greedy.take(KIB)).await.expect("its turn");
    let payload_bytes = 700 * KIB;
    let (mut incoming, sending) = Peer::new(&shared, payload_bytes).await.sends_all();
    until_it_waits(&mut incoming).await;
    let held = incoming.frames.held_bytes();
    let held_max = CONNECTION_BYTES_ALLOWED + FRAME_BYTES_UNCOUNTED_MAX;
    assert!(held <= held_max, "{held} bytes are held, {held_max} at most may be");
    // Whoever declares a usual block meanwhile does not wait.
    let mut honest = Peer::new(&shared, CONNECTION_BYTES_ALLOWED - 8 * KIB).await;
    assert_eq!(bytes(honest.rest().await), CONNECTION_BYTES_ALLOWED - 8 * KIB);
    drop((all, beyond));
    let whole = timeout(PATIENCE, incoming.next(|_| Admit::Buffer)).await.expect("there is room");
    let (_, permit) = whole.as_ref().unwrap();
    assert!(permit.bytes() + FRAME_BYTES_UNCOUNTED_MAX >= payload_bytes, "{}", permit.bytes());
    assert_eq!(bytes(whole), payload_bytes);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_frame_does_not_wait_for_room_for_ever() {
    let shared = ByteBudget::new(KIB * KIB);
    let greedy = ConnectionBudget::new(shared.clone());
    let _all = greedy.take(CONNECTION_BYTES_ALLOWED + KIB * KIB).await;
    let _beyond = timeout(PATIENCE, greedy.take(KIB)).await.expect("its turn");
    let (mut incoming, sending) = Peer::new(&shared, 700 * KIB).await.sends_all();
    until_it_waits(&mut incoming).await;
    let arriving = incoming.frame.as_mut().unwrap();
    let (since, _) = arriving.taking.as_mut().unwrap();
    *since = since.checked_sub(FRAME_ROOM_WAIT_MAX).unwrap();
    let ended = timeout(PATIENCE, incoming.next(|_| Admit::Buffer)).await.expect("its end");
    assert!(matches!(ended, Err(Ended::NoRoom)), "{ended:?}");
    drop(incoming);
    sending.await.unwrap();
}

/// Neither has room for the rest while the other holds what it has.
#[tokio::test]
async fn frames_do_not_wait_for_each_other() {
    let payload_bytes = 400 * KIB;
    let shared = ByteBudget::new(256 * KIB);
    let mut one = Peer::new(&shared, payload_bytes).await;
    let mut other = Peer::new(&shared, payload_bytes).await;
    one.sends(200 * KIB).await;
    other.sends(200 * KIB).await;
    assert!(shared.free_bytes() < payload_bytes / 2, "{} bytes are free", shared.free_bytes());
    let whole = async |peer: &mut Peer| bytes(peer.rest().await);
    let both = tokio::join!(whole(&mut one), whole(&mut other));
    assert_eq!(both, (payload_bytes, payload_bytes));
    assert_eq!(shared.free_bytes(), shared.capacity_bytes());
}

#[tokio::test]
async fn large_frames_are_read_in_turns_and_small_ones_at_once() {
    let shared = ByteBudget::new(KIB * KIB);
    let turns = Turns::at_once(1);
    let held = turns.take().await;
    let mut small = Peer::new(&shared, LARGE_FRAME_BYTES_MIN - 1).await;
    small.incoming.turns = turns.clone();
    assert_eq!(bytes(small.rest().await), LARGE_FRAME_BYTES_MIN - 1);
    let (mut incoming, sending) = Peer::new(&shared, LARGE_FRAME_BYTES_MIN).await.sends_all();
    incoming.turns = turns;
    let soon = timeout(Duration::from_millis(50), incoming.next(|_| Admit::Buffer)).await;
    assert!(soon.is_err(), "read while the turn was another's");
    drop(held);
    let whole = timeout(PATIENCE, incoming.next(|_| Admit::Buffer)).await.expect("its turn");
    assert_eq!(bytes(whole), LARGE_FRAME_BYTES_MIN);
    sending.await.unwrap();
}

#[tokio::test]
async fn who_waits_for_its_peer_holds_up_nobody() {
    let turns = Turns::at_once(1);
    let waiting = {
        let turns = turns.clone();
        tokio::spawn(async move { in_turns(Some(&turns), pending::<()>()).await })
    };
    yield_now().await;
    assert_eq!(in_turns(Some(&turns), async { 1 }).await, 1);
    waiting.abort();
}

#[tokio::test]
async fn nothing_is_read_out_of_turn_and_who_goes_gives_its_turn_back() {
    let turns = Turns::at_once(1);
    let held = turns.take().await;
    let stand = |answer: oneshot::Sender<()>| {
        let turns = turns.clone();
        tokio::spawn(async move {
            let _ = in_turns(Some(&turns), async { answer.send(()) }).await;
        })
    };
    let (first, mut of_first) = oneshot::channel();
    let (second, of_second) = oneshot::channel();
    let (gone, stands) = (stand(first), stand(second));
    yield_now().await;
    assert!(of_first.try_recv().is_err(), "it was read while the turn was another's");
    gone.abort();
    drop(held);
    of_second.await.unwrap();
    stands.await.unwrap();
    assert!(turns.take().await.is_some(), "the turn is back");
}
