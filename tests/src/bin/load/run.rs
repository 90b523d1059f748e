//! One run against one server, from the first connection to the figures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bitcoin::BlockHash;
use jds_tests::bench::{Material, ProcessReader};
use tokio::sync::watch;

use crate::args::Args;
use crate::board::Board;
use crate::chain::{self, Chain, NodeLog, Tip};
use crate::course::{Blocks, OpenLoop, Ran, TokenClients, storms};
use crate::found::{self, Found};
use crate::miner::{Answer, Miner, Scene};
use crate::proposal::{Proposal, Stock};
use crate::report::{self, Figures, Run};
use crate::server::Server;
use crate::shares::{Crowd, Sharing};
use crate::soak::{Restarts, Sampler, Window};
use crate::templates::{OnBlock, TemplateClients};

/// How long a server may take until it takes declarations.
const READY_WAIT: Duration = Duration::from_secs(60);
/// Between two tries of that.
const READY_POLL: Duration = Duration::from_millis(100);
/// Restarts of the node in a soak, about.
const RESTARTS: u32 = 10;
/// How long the last template client may take for its last work.
const LAST_WORK_WAIT: Duration = Duration::from_secs(20);

/// Everybody who is connected.
struct Cast {
    templates: Option<TemplateClients>,
    miners: Vec<Miner>,
    crowd: Option<Crowd>,
    _tokens: Option<TokenClients>,
}

/// Plays everything against one server.
pub(crate) async fn run(
    args: &Args,
    chain: &Chain,
    server: &Server,
    pair: u32,
) -> anyhow::Result<Run> {
    let board = Arc::new(Board::default());
    let tips = chain.tips().await?;
    let scene = scene(args, chain, server, &board, &tips).await?;
    if let Some(scene) = &scene {
        teach(scene).await.context("the first declaration")?;
    }
    let process = server.process.as_ref();
    let mut figures = Figures { before: report::memory(process)?, ..Figures::default() };
    let (began, mut connected_in) = (Instant::now(), Duration::ZERO);
    let templates = match &server.templates {
        Some(target) if args.templates > 0 => {
            let (count, constraints) = (args.templates, args.constraints);
            let clients = TemplateClients::connect(target, count, constraints, &board).await?;
            connected_in += began.elapsed();
            let has_work = clients.wait_work_on(&tips.borrow().hash, READY_WAIT).await;
            ensure!(has_work, "not every template client was given work with transactions");
            Some(clients)
        }
        _ => None,
    };
    figures.with_templates = report::memory(process)?;
    let began = Instant::now();
    let crowd = match &server.mining {
        Some(ports) if args.mining > 0 => {
            Some(Crowd::connect(ports, args.mining, &args.mining_kinds, &board).await?)
        }
        _ => None,
    };
    if crowd.is_some() {
        connected_in += began.elapsed();
    }
    figures.with_sharers = report::memory(process)?;
    let (mut miners, mut tokens) = (Vec::new(), None);
    if let Some(scene) = &scene {
        let began = Instant::now();
        miners = Miner::connect_all(scene, args.declaring).await?;
        connected_in += began.elapsed();
        figures.with_miners = report::memory(process)?;
        miners = Miner::prepare_all(miners).await?;
        if args.token_rate > 0.0 {
            tokens = Some(TokenClients::start(scene, args.token_rate).await?);
        }
    } else {
        figures.with_miners = figures.with_sharers;
    }
    let connected = board.handshakes.count();
    let cast = Cast { templates, miners, crowd, _tokens: tokens };
    let (own, cpu) = (ProcessReader::own().cpu()?, report::cpu(process)?);
    let began = Instant::now();
    let soak = Soak::start(args, chain, process, &board);
    let played = play(args, chain, server, scene.as_ref(), &tips, cast, &board).await?;
    let soak = match soak {
        Some(soak) => Some(soak.stop().await?),
        None => None,
    };
    let course = began.elapsed();
    let own_cpu = ProcessReader::own().cpu()?.saturating_sub(own);
    figures.cpu = report::cpu(process)?.saturating_sub(cpu);
    figures.after = report::memory(process)?;
    figures.descriptors = process.map_or(Ok(0), ProcessReader::descriptors)?;
    judge(chain, &played, &board)?;
    if let Some(clients) = played.cast.templates {
        clients.stop().await;
    }
    Ok(Run {
        server: server.name.clone(),
        pair,
        declaring: if scene.is_some() { args.declaring } else { 0 },
        templates: if server.templates.is_some() { args.templates } else { 0 },
        started: server.started,
        restarted: None,
        connected,
        connected_in,
        ran: played.ran,
        sharing: if server.mining.is_some() { args.mining } else { 0 },
        shared_for: played.shared_for,
        course,
        tips: played.tips.len(),
        process: process.map(|_| figures),
        own_cpu,
        board,
        soak,
    })
}

/// What goes on beside a soak.
struct Soak {
    sampler: Sampler,
    restarts: Restarts,
}

impl Soak {
    fn start(
        args: &Args,
        chain: &Chain,
        process: Option<&ProcessReader>,
        board: &Arc<Board>,
    ) -> Option<Self> {
        let (process, node) = (process?, chain.node()?);
        let length = Duration::from_secs(args.seconds);
        args.soak.then(|| Self {
            sampler: Sampler::start(process, board, length),
            restarts: Restarts::start(node, length / RESTARTS),
        })
    }

    /// What it saw, and how often the node restarted.
    async fn stop(self) -> anyhow::Result<(Vec<Window>, u32)> {
        let restarts = self.restarts.stop().await?;
        Ok((self.sampler.stop().await?, restarts))
    }
}

/// What the miners of a run share; none where nobody declares.
async fn scene(
    args: &Args,
    chain: &Chain,
    server: &Server,
    board: &Arc<Board>,
    tips: &watch::Sender<Tip>,
) -> anyhow::Result<Option<Arc<Scene>>> {
    let Some(target) = server.declaration.clone().filter(|_| args.declaring > 0) else {
        return Ok(None);
    };
    let node = chain.node();
    let wanted = match node {
        Some(_) => chain::pool_size(args.transactions),
        None => args.transactions,
    };
    let material = Material::of(&Chain::login(args, node)?, wanted).await?;
    Ok(Some(Arc::new(Scene {
        target,
        stock: Arc::new(Stock::new(material)),
        board: Arc::clone(board),
        tips: tips.clone(),
        transactions: args.transactions,
        unknown: args.unknown_txs(),
    })))
}

/// Declares all that the node would mine, so that the server knows it, and goes.
async fn teach(scene: &Arc<Scene>) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WAIT;
    let mut miner = Miner::alone(scene);
    miner.prepare().await?;
    let outputs = miner.token().context("a token")?.outputs()?;
    let (stock, count) = (&scene.stock, scene.stock.len());
    let all = Proposal::new(stock, outputs, count, 0, miner.rng())?;
    miner.propose(all);
    loop {
        match miner.answer().await? {
            Answer::Accepted => return Ok(()),
            answer if Instant::now() >= deadline => {
                bail!("waited for the server to take what the node would mine: {answer:?}")
            }
            Answer::Rejected(_) => {}
        }
        tokio::time::sleep(READY_POLL).await;
        miner.prepare().await?;
    }
}

/// What was played.
struct Played {
    cast: Cast,
    ran: Ran,
    tips: Vec<Tip>,
    /// What the template clients had when.
    works: HashMap<BlockHash, OnBlock>,
    found: Vec<Found>,
    /// How long shares came.
    shared_for: Duration,
}

async fn play(
    args: &Args,
    chain: &Chain,
    server: &Server,
    scene: Option<&Arc<Scene>>,
    tips: &watch::Sender<Tip>,
    mut cast: Cast,
    board: &Arc<Board>,
) -> anyhow::Result<Played> {
    let warm_up = Duration::from_secs(args.warm_up);
    let sharing =
        cast.crowd.take().map(|crowd| Sharing::start(crowd, args.share_rate, warm_up, board));
    let (mut ran, mut found) = (Ran::default(), Vec::new());
    let followed = Followed::start(args, chain, tips);
    match (scene, chain.node()) {
        (Some(scene), Some(node)) if args.storms > 0 => {
            let miners = std::mem::take(&mut cast.miners);
            (cast.miners, ran) = storms(args, node, scene, miners).await?;
        }
        (Some(scene), _) => {
            let miners = std::mem::take(&mut cast.miners);
            (cast.miners, ran) = open_loop(args, scene, miners).await?;
        }
        (None, _) => tokio::time::sleep(Duration::from_secs(args.seconds)).await,
    }
    let tips = followed.stop().await?;
    let shared_for = match sharing {
        Some(sharing) => sharing.stop().await?,
        None => Duration::ZERO,
    };
    if let (Some(clients), Some(last)) = (&cast.templates, tips.last())
        && !clients.wait_work_on(&last.hash, LAST_WORK_WAIT).await
        && let Some(scene) = scene
    {
        scene.board.error("template client: no work with transactions on the last block");
    }
    let works = cast.templates.as_ref().map(|clients| clients.heard().take()).unwrap_or_default();
    if let (Some(scene), Some(node)) = (scene, chain.node())
        && args.solutions > 0
        && let Some(mut finder) = cast.miners.pop()
    {
        let paused = watch::Sender::new(true);
        let miners = std::mem::take(&mut cast.miners);
        // Nothing of it counts.
        let never = Duration::from_secs(24 * 60 * 60);
        let others = OpenLoop::start(args, miners, None, never, &paused.subscribe());
        let place = (node, server.api);
        let blocks = found::find(scene, place, &mut finder, args.solutions, &paused).await;
        cast.miners = others.stop().await?;
        cast.miners.push(finder);
        found = blocks?;
    }
    Ok(Played { cast, ran, tips, works, found, shared_for })
}

async fn open_loop(
    args: &Args,
    scene: &Arc<Scene>,
    miners: Vec<Miner>,
) -> anyhow::Result<(Vec<Miner>, Ran)> {
    let (length, warm_up) = (Duration::from_secs(args.seconds), Duration::from_secs(args.warm_up));
    let paused = watch::Sender::new(false);
    let course = OpenLoop::start(args, miners, Some(length), warm_up, &paused.subscribe());
    let (miners, lasted) = course.finish().await?;
    Ok((miners, Ran { lasted, accepted: scene.board.declarations.count() }))
}

/// Notes the blocks of a course; mines them, where that is wanted.
enum Followed {
    Mining(Blocks),
    Watching(tokio::task::JoinHandle<Vec<Tip>>, watch::Sender<bool>),
}

impl Followed {
    fn start(args: &Args, chain: &Chain, tips: &watch::Sender<Tip>) -> Self {
        if let Some(node) = chain.node()
            && args.block_every() > 0.0
            && args.storms == 0
        {
            let every = Duration::from_secs_f64(args.block_every());
            return Self::Mining(Blocks::start(node, tips, every));
        }
        let (stop, mut told) = (watch::Sender::new(false), tips.subscribe());
        let mut stopped = stop.subscribe();
        let watching = tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                tokio::select! {
                    changed = told.changed() => if changed.is_err() { return seen },
                    _ = stopped.wait_for(|stop| *stop) => return seen,
                }
                seen.push(*told.borrow_and_update());
            }
        });
        Self::Watching(watching, stop)
    }

    async fn stop(self) -> anyhow::Result<Vec<Tip>> {
        match self {
            Self::Mining(blocks) => blocks.stop().await,
            Self::Watching(watching, stop) => {
                stop.send_replace(true);
                Ok(watching.await?)
            }
        }
    }
}

/// Compares what the clients noted with what the node says of itself.
fn judge(chain: &Chain, played: &Played, board: &Board) -> anyhow::Result<()> {
    let log = match chain.node() {
        Some(node) => NodeLog::read(node.with(|node| Ok(node.debug_log()))?)?,
        None => NodeLog::default(),
    };
    found::judge(&played.found, &log, board);
    let Some(clients) = &played.cast.templates else { return Ok(()) };
    for tip in &played.tips {
        let known_at = known_at(&log, &tip.hash).unwrap_or(tip.at);
        let on = played.works.get(&tip.hash).cloned().unwrap_or_default();
        for at in &on.work {
            board.tip_to_work.record(at.saturating_duration_since(known_at));
        }
        for at in &on.full {
            board.tip_to_full_work.record(at.saturating_duration_since(known_at));
        }
        if on.work.len() != clients.count {
            let count = clients.count.abs_diff(on.work.len());
            board.error(format!(
                "template client: {count} without work on a block, or with it twice"
            ));
        }
    }
    Ok(())
}

fn known_at(log: &NodeLog, hash: &BlockHash) -> Option<Instant> {
    log.tips.get(hash).copied()
}
