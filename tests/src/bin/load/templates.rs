//! Clients that are given templates.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use jds::client::SetupOptions;
use jds::client::templates::{Pushed, TemplateClient};
use jds_tests::bench::Target;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::board::Board;
use crate::miner::short;

/// Clients that connect at the same time.
const CONNECTING_MAX: usize = 64;
/// No client waits longer than this for the next template.
const QUIET_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a client adds to the coinbase, bytes, where all add the same.
const SIZE: u32 = 100;
/// The same where they differ: so much, and so much more for each, that fewer transactions fit.
const SIZE_DIFFERENT: u32 = 40_000;
const SIZE_STEP: u32 = 1_000;

/// Clients that listen.
pub(crate) struct TemplateClients {
    heard: Arc<Heard>,
    stop: watch::Sender<bool>,
    listening: JoinSet<()>,
    pub(crate) count: usize,
}

/// When which client had work on a block.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<HashMap<BlockHash, OnBlock>>);

/// See [`Heard`].
#[derive(Debug, Clone, Default)]
pub(crate) struct OnBlock {
    /// SetNewPrevHash.
    pub(crate) work: Vec<Instant>,
    /// Work with transactions.
    pub(crate) full: Vec<Instant>,
}

impl Heard {
    fn note(&self, block: BlockHash, note: impl FnOnce(&mut OnBlock)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(block).or_default());
    }

    /// All so far; what comes from now on is noted anew.
    pub(crate) fn take(&self) -> HashMap<BlockHash, OnBlock> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of a block.
    fn on(&self, block: &BlockHash) -> OnBlock {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(block).cloned().unwrap_or_default()
    }
}

impl TemplateClients {
    /// Connects `count` clients with `constraints` different constraints, and waits until each has
    /// work on the tip.
    pub(crate) async fn connect(
        target: &Target,
        count: usize,
        constraints: usize,
        board: &Arc<Board>,
    ) -> anyhow::Result<Self> {
        let (places, heard) =
            (Arc::new(Semaphore::new(CONNECTING_MAX)), Arc::new(Heard::default()));
        let stop = watch::Sender::new(false);
        let mut connecting = JoinSet::new();
        for number in 0..count {
            let (places, target, board) = (Arc::clone(&places), target.clone(), Arc::clone(board));
            let size = size_of_number(number, constraints);
            connecting.spawn(async move {
                let _place = places.acquire_owned().await;
                connect(&target, size, &board).await
            });
        }
        let mut listening = JoinSet::new();
        while let Some(client) = connecting.join_next().await {
            let client = client?.context("a template client")?;
            let (heard, board, stop) = (Arc::clone(&heard), Arc::clone(board), stop.subscribe());
            listening.spawn(listen(client, heard, board, stop));
        }
        Ok(Self { heard, stop, listening, count })
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Waits until all have work with transactions on the block; false when the time is over.
    pub(crate) async fn wait_work_on(&self, block: &BlockHash, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.heard.on(block).full.len() < self.count {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Ends them.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listening.join_next().await.is_some() {}
    }
}

fn size_of_number(number: usize, constraints: usize) -> u32 {
    match constraints {
        1 => SIZE,
        _ => SIZE_DIFFERENT + SIZE_STEP * (number % constraints) as u32,
    }
}

async fn connect(target: &Target, size: u32, board: &Board) -> anyhow::Result<TemplateClient> {
    let options = SetupOptions { timeout: QUIET_MAX, ..SetupOptions::default() };
    let began = Instant::now();
    let mut client = TemplateClient::connect(target.address, target.key, &options).await?;
    board.handshakes.record(began.elapsed());
    client.constrain(size, 0).await?;
    Ok(client)
}

async fn listen(
    mut client: TemplateClient,
    heard: Arc<Heard>,
    board: Arc<Board>,
    mut stop: watch::Receiver<bool>,
) {
    let (mut on, mut full_on, mut future) = (None, None, None);
    loop {
        let pushed = tokio::select! {
            biased;
            pushed = client.pushed() => pushed,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let now = Instant::now();
        match pushed {
            Ok(Pushed::Template(template)) if template.future => {
                future = Some((template.id, !template.merkle_path.is_empty()));
            }
            Ok(Pushed::Template(template)) => {
                if let Some(block) = on
                    && full_on != on
                    && !template.merkle_path.is_empty()
                {
                    full_on = on;
                    heard.note(block, |on| on.full.push(now));
                }
            }
            Ok(Pushed::PrevHash(prev_hash)) => {
                let block = BlockHash::from_byte_array(prev_hash.prev_hash);
                on = Some(block);
                heard.note(block, |on| on.work.push(now));
                if future == Some((prev_hash.template_id, true)) {
                    full_on = on;
                    heard.note(block, |on| on.full.push(now));
                }
            }
            Err(error) => {
                return board.error(format!("template client: {}", short(&error.into())));
            }
        }
    }
}
