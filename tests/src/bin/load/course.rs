//! What the miners do: declarations at a rate, storms, tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jds::client::{JdClient, SetupOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::args::{Args, Arrivals};
use crate::chain::{self, OwnNode, Tip};
use crate::metronome::{Metronome, Pace};
use crate::miner::{Miner, Scene, short};

/// Connections that ask for tokens and do nothing else.
const TOKEN_CLIENTS: usize = 8;
/// Declarations until a miner leaves and comes back, where they do.
const DECLARATIONS_PER_STAY: u32 = 10;
/// Until the first declaration: everybody is there then.
const START_PAUSE: Duration = Duration::from_millis(100);
/// A rest between two storms: what follows an answer is done.
const STORM_PAUSE: Duration = Duration::from_secs(2);

/// How the declarations of a run came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ran {
    /// From the first that counts to the last answer.
    pub(crate) lasted: Duration,
    /// Accepted in that time.
    pub(crate) accepted: u64,
}

/// Declarations at a rate, until the end.
pub(crate) struct OpenLoop {
    metronome: Option<Metronome>,
    miners: JoinSet<Miner>,
    counts_from: Instant,
}

impl OpenLoop {
    /// Begins. Without an end it goes on until [`Self::stop`]. While `paused` says so, what is due is
    /// left out.
    pub(crate) fn start(
        args: &Args,
        miners: Vec<Miner>,
        end: Option<Duration>,
        warm_up: Duration,
        paused: &watch::Receiver<bool>,
    ) -> Self {
        let start = Instant::now() + START_PAUSE;
        let counts_from = start + warm_up;
        let (mut hearers, mut playing) = (Vec::new(), JoinSet::new());
        let stays = args.soak.then_some(DECLARATIONS_PER_STAY);
        for miner in miners {
            let (hearer, dues) = mpsc::unbounded_channel();
            hearers.push(hearer);
            playing.spawn(play(miner, dues, counts_from, paused.clone(), stays));
        }
        let pace = match args.arrivals {
            Arrivals::Even => Pace::Even(args.rate),
            Arrivals::Random => Pace::Random(args.rate),
        };
        let end = end.map(|end| start + end);
        let metronome = Some(Metronome::start(pace, start, end, hearers));
        Self { metronome, miners: playing, counts_from }
    }

    /// Waits until all that was due has its answer.
    pub(crate) async fn finish(mut self) -> anyhow::Result<(Vec<Miner>, Duration)> {
        let mut miners = Vec::new();
        while let Some(miner) = self.miners.join_next().await {
            miners.push(miner?);
        }
        Ok((miners, self.counts_from.elapsed()))
    }

    /// Nothing more is due.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Vec<Miner>> {
        let metronome = self.metronome.take();
        // It may be in the middle of a pause.
        tokio::task::spawn_blocking(move || drop(metronome)).await?;
        self.finish().await.map(|(miners, _)| miners)
    }
}

async fn play(
    mut miner: Miner,
    mut dues: mpsc::UnboundedReceiver<Instant>,
    counts_from: Instant,
    paused: watch::Receiver<bool>,
    stays: Option<u32>,
) -> Miner {
    let mut declared = 0u32;
    while let Some(due) = dues.recv().await {
        if *paused.borrow() {
            continue;
        }
        miner.declare(due, due >= counts_from).await;
        miner.forget_unknown();
        declared += 1;
        if stays.is_some_and(|stays| declared.is_multiple_of(stays)) {
            miner.leave();
        }
        // Ahead of time, so that only the declaration itself counts. What fails here fails again when
        // it is due, and is counted then.
        let _ = miner.prepare().await;
    }
    miner
}

/// Blocks come, and each time all miners declare at the same moment.
pub(crate) async fn storms(
    args: &Args,
    node: &OwnNode,
    scene: &Arc<Scene>,
    mut miners: Vec<Miner>,
) -> anyhow::Result<(Vec<Miner>, Ran)> {
    let mut ran = Ran::default();
    for storm in 0..args.storms {
        if storm > 0 {
            tokio::time::sleep(STORM_PAUSE).await;
        }
        let accepted_before = scene.board.declarations.count();
        let mut playing = JoinSet::new();
        for mut miner in miners.drain(..) {
            let mut tips = scene.tips.subscribe();
            playing.spawn(async move {
                let prepared = miner.prepare().await;
                // Only a tip that comes from now on.
                tips.mark_unchanged();
                (miner, tips, prepared)
            });
        }
        let mut ready = Vec::new();
        while let Some(one) = playing.join_next().await {
            let (miner, tips, prepared) = one?;
            prepared.context("a miner before the storm")?;
            ready.push((miner, tips));
        }
        let mut playing = JoinSet::new();
        for (mut miner, mut tips) in ready {
            playing.spawn(async move {
                // The sender is there for as long as the run.
                let _ = tips.changed().await;
                let due = tips.borrow().at;
                miner.declare(due, true).await;
                miner.forget_unknown();
                miner
            });
        }
        let began = mine(node, &scene.tips).await?.at;
        while let Some(miner) = playing.join_next().await {
            miners.push(miner?);
        }
        ran.lasted += began.elapsed();
        ran.accepted += scene.board.declarations.count() - accepted_before;
    }
    Ok((miners, ran))
}

/// A block without transactions.
pub(crate) async fn mine(node: &OwnNode, tips: &watch::Sender<Tip>) -> anyhow::Result<Tip> {
    let tips = tips.clone();
    node.ask(move |node| chain::mine(node, &tips)).await
}

/// Asks for tokens at a rate for as long as it lives.
pub(crate) struct TokenClients {
    _metronome: Metronome,
    /// Beside a thousand miners who all encrypt something at the same moment they would measure this
    /// program, not the server.
    _apart: Apart,
}

/// A thread for those who are not to stand behind others.
struct Apart(Option<Runtime>);

impl Apart {
    fn start() -> std::io::Result<Self> {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map(|own| Self(Some(own)))
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        Ok(self.0.as_ref().context("a runtime that has ended")?.spawn(work))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It is dropped where nothing may be waited for.
        if let Some(own) = self.0.take() {
            own.shutdown_background();
        }
    }
}

impl TokenClients {
    pub(crate) async fn start(scene: &Arc<Scene>, rate: f64) -> anyhow::Result<Self> {
        let apart = Apart::start()?;
        let mut hearers = Vec::new();
        for number in 0..TOKEN_CLIENTS {
            let target = scene.target.clone();
            // The socket belongs to the runtime that makes it.
            let connecting = apart.spawn(async move {
                JdClient::connect(target.address, target.key, &SetupOptions::default()).await
            })?;
            let mut client = connecting.await??;
            let (hearer, mut dues) = mpsc::unbounded_channel();
            hearers.push(hearer);
            let (board, user) = (Arc::clone(&scene.board), format!("load-token-{number}"));
            let asking = async move {
                while let Some(due) = dues.recv().await {
                    let due: Instant = due;
                    match client.allocate_token(&user).await {
                        Ok(_) => board.tokens.record(due.elapsed()),
                        Err(error) => {
                            board.error(format!("token: {}", short(&error.into())));
                            return;
                        }
                    }
                }
            };
            // It ends with the thread.
            drop(apart.spawn(asking)?);
        }
        let metronome = Metronome::start(Pace::Even(rate), Instant::now(), None, hearers);
        Ok(Self { _metronome: metronome, _apart: apart })
    }
}

/// Blocks at an interval, until told to stop.
pub(crate) struct Blocks {
    stop: watch::Sender<bool>,
    mining: JoinHandle<anyhow::Result<Vec<Tip>>>,
}

impl Blocks {
    pub(crate) fn start(node: &OwnNode, tips: &watch::Sender<Tip>, every: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let (mut stopped, node, tips) = (stop.subscribe(), node.clone(), tips.clone());
        let mining = tokio::spawn(async move {
            let mut mined = Vec::new();
            let mut next = Instant::now() + every;
            loop {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return Ok(mined),
                    () = tokio::time::sleep_until(next.into()) => {}
                }
                mined.push(mine(&node, &tips).await?);
                // What a restart of the node held up is not made up for.
                next = (next + every).max(Instant::now() + every / 2);
            }
        });
        Self { stop, mining }
    }

    /// The blocks that were mined.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Tip>> {
        self.stop.send_replace(true);
        self.mining.await?
    }
}
