//! A miner who declares templates of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jds::client::{ClientError, Declaration, DeclareOutcome, JdClient, SetupOptions, Token};
use jds_tests::bench::Target;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::board::Board;
use crate::chain::Tip;
use crate::proposal::{Proposal, Stock};

/// Clients that connect at the same time.
const CONNECTING_MAX: usize = 64;
/// Longest wait for anything from the server.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all miners of a run share.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) target: Target,
    pub(crate) stock: Arc<Stock>,
    pub(crate) board: Arc<Board>,
    pub(crate) tips: watch::Sender<Tip>,
    /// Transactions of each template.
    pub(crate) transactions: usize,
    /// Of those, such as the server does not know.
    pub(crate) unknown: usize,
}

/// One connection, a token and a template.
#[derive(Debug)]
pub(crate) struct Miner {
    scene: Arc<Scene>,
    user: String,
    /// None after a failure.
    client: Option<JdClient>,
    token: Option<Token>,
    proposal: Option<Proposal>,
    rng: StdRng,
}

/// What the server says to a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Rejected(String),
}

impl Miner {
    /// Not connected yet; beside those that are counted.
    pub(crate) fn alone(scene: &Arc<Scene>) -> Self {
        Self::numbered(scene, usize::MAX)
    }

    fn numbered(scene: &Arc<Scene>, number: usize) -> Self {
        Self {
            scene: Arc::clone(scene),
            user: format!("load-{number}"),
            client: None,
            token: None,
            proposal: None,
            rng: StdRng::seed_from_u64(number as u64),
        }
    }

    /// So many of them, connected.
    pub(crate) async fn connect_all(scene: &Arc<Scene>, count: usize) -> anyhow::Result<Vec<Self>> {
        let miners = (0..count).map(|number| Self::numbered(scene, number)).collect();
        each(miners, Step::Connect).await
    }

    /// All of them with a token and a template.
    pub(crate) async fn prepare_all(miners: Vec<Self>) -> anyhow::Result<Vec<Self>> {
        each(miners, Step::Prepare).await
    }

    /// The connection; made now, if there is none.
    async fn connect(&mut self) -> anyhow::Result<&mut JdClient> {
        match &mut self.client {
            Some(client) => Ok(client),
            gone => {
                let options = SetupOptions { timeout: PATIENCE, ..SetupOptions::default() };
                let began = Instant::now();
                let target = &self.scene.target;
                let client = JdClient::connect(target.address, target.key, &options).await?;
                self.scene.board.handshakes.record(began.elapsed());
                Ok(gone.insert(client))
            }
        }
    }

    /// Gets a token and a template that nobody has declared, if it has none; connects if need be.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<()> {
        if self.token.is_none() {
            let user = self.user.clone();
            self.token = Some(self.connect().await?.allocate_token(&user).await?);
        }
        if let (None, Some(token)) = (&self.proposal, &self.token) {
            let (scene, outputs) = (Arc::clone(&self.scene), token.outputs()?);
            let (count, unknown) = (scene.transactions, scene.unknown);
            let rng = &mut self.rng;
            self.proposal = Some(Proposal::new(&scene.stock, outputs, count, unknown, rng)?);
        }
        Ok(())
    }

    /// Declares on the tip of the moment. Written down are the time since `due`, unless `counts` is
    /// false, and whatever goes wrong.
    pub(crate) async fn declare(&mut self, due: Instant, counts: bool) {
        let board = Arc::clone(&self.scene.board);
        match self.answer().await {
            Ok(Answer::Accepted) if counts => {
                board.declarations.record(due.elapsed());
                board.window.record(due.elapsed());
            }
            Ok(Answer::Accepted) => {}
            Ok(Answer::Rejected(code)) => board.error(format!("declaration: {code}")),
            Err(error) => {
                board.error(format!("declaration: {}", short(&error)));
                self.leave();
            }
        }
    }

    /// Declares on the tip of the moment, after [`Self::prepare`].
    pub(crate) async fn answer(&mut self) -> anyhow::Result<Answer> {
        // Behind the end of the present chain, whatever that is by now.
        let height = self.scene.tips.borrow().height + 1;
        if self.client.is_none() || self.token.is_none() || self.proposal.is_none() {
            self.prepare().await?;
        }
        let (Some(client), Some(token)) = (&mut self.client, self.token.take()) else {
            bail!("nothing to declare with");
        };
        let Some(proposal) = &mut self.proposal else { bail!("nothing to declare") };
        proposal.rise_to(height);
        proposal.renew();
        let before = client.traffic();
        let declaration = Declaration {
            token: &token.bytes,
            version: proposal.version(),
            prefix: &proposal.prefix,
            suffix: &proposal.suffix,
            wtxids: &proposal.wtxids,
        };
        let outcome = client.declare(declaration, |position| proposal.raw_tx(position)).await?;
        let after = client.traffic();
        let bytes = after.0 + after.1 - before.0 - before.1;
        let (answer, missing) = match outcome {
            DeclareOutcome::Accepted { missing, .. } => (Answer::Accepted, missing),
            DeclareOutcome::Rejected { code, missing, .. } => (Answer::Rejected(code), missing),
        };
        self.scene.board.add_answered(bytes, missing);
        Ok(answer)
    }

    /// After an answer: what was unknown is known now, so the next template has others.
    pub(crate) fn forget_unknown(&mut self) {
        if self.scene.unknown > 0 {
            self.proposal = None;
        }
    }

    /// Ends its connection; the next request makes another.
    pub(crate) fn leave(&mut self) {
        (self.client, self.token) = (None, None);
    }

    /// Replaces its template.
    pub(crate) fn propose(&mut self, proposal: Proposal) {
        self.proposal = Some(proposal);
    }

    pub(crate) fn proposal(&self) -> Option<&Proposal> {
        self.proposal.as_ref()
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    pub(crate) fn client(&mut self) -> Option<&mut JdClient> {
        self.client.as_mut()
    }

    pub(crate) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Prepare,
}

/// Does that with all of them, many at a time.
async fn each(miners: Vec<Miner>, step: Step) -> anyhow::Result<Vec<Miner>> {
    let places = Arc::new(Semaphore::new(CONNECTING_MAX));
    let (mut done, mut tasks) = (Vec::with_capacity(miners.len()), JoinSet::new());
    for mut miner in miners {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            match step {
                Step::Connect => miner.connect().await.map(|_| ())?,
                Step::Prepare => miner.prepare().await?,
            }
            anyhow::Ok(miner)
        });
    }
    while let Some(miner) = tasks.join_next().await {
        done.push(miner??);
    }
    Ok(done)
}

/// What an error is counted as: without what is different each time.
pub(crate) fn short(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(error) if error.is_disconnect() => "disconnected".to_owned(),
        Some(ClientError::Timeout { waiting_for, .. }) => format!("no {waiting_for} in time"),
        Some(ClientError::Connect { .. }) => "no connection".to_owned(),
        _ => error.to_string(),
    }
}
