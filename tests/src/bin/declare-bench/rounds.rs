//! Rounds of declarations, and what they come to.

use std::fmt;

use anyhow::Context;
use jds_tests::bench::{Material, Target};
use serde_json::{Value, json};

use crate::player::{Declared, Player};

/// What is run.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) user: String,
    pub(crate) clients: usize,
    pub(crate) rounds: usize,
    pub(crate) warm_up: usize,
    /// Rounds of one server in a row.
    pub(crate) block: usize,
}

/// What came out for one server.
#[derive(Debug)]
pub(crate) struct Summary {
    name: String,
    /// Transactions of each declaration, coinbase aside.
    pub(crate) transactions: usize,
    /// Of every declaration in order, in milliseconds.
    pub(crate) ms: Vec<f64>,
    sorted_ms: Vec<f64>,
    missing: usize,
}

impl Course {
    /// The servers take turns, a block each: in each round of a block all clients of a server declare
    /// at the same time.
    pub(crate) async fn run(
        &self,
        targets: &[Target],
        node: &Material,
    ) -> anyhow::Result<Vec<Summary>> {
        let mut teams = Vec::new();
        for target in targets {
            teams.push(self.team(target, node).await?);
        }
        let mut declared = vec![Vec::new(); teams.len()];
        let rounds: Vec<usize> = (0..self.warm_up + self.rounds).collect();
        for block in rounds.chunks(self.block) {
            for ((team, declared), target) in teams.iter_mut().zip(&mut declared).zip(targets) {
                for round in block {
                    let all = play(team).await;
                    let all = all.with_context(|| format!("{}, round {round}", target.name))?;
                    if *round >= self.warm_up {
                        declared.extend(all);
                    }
                }
            }
        }
        let summary = |(target, declared): (&Target, Vec<Declared>)| {
            Summary::new(target.name.clone(), node.txs.len(), &declared)
        };
        Ok(targets.iter().zip(declared).map(summary).collect())
    }

    async fn team(&self, target: &Target, node: &Material) -> anyhow::Result<Vec<Player>> {
        let mut team = Vec::with_capacity(self.clients);
        for number in 0..self.clients {
            let user = match self.clients {
                1 => self.user.clone(),
                _ => format!("{}-{number}", self.user),
            };
            let player = Player::connect(target, user, node).await;
            team.push(player.with_context(|| format!("{} at {}", target.name, target.address))?);
        }
        Ok(team)
    }
}

/// One declaration of everybody, at the same time.
async fn play(team: &mut Vec<Player>) -> anyhow::Result<Vec<Declared>> {
    if let [player] = team.as_mut_slice() {
        return Ok(vec![player.declare().await?]);
    }
    let all: Vec<_> = team
        .drain(..)
        .map(|mut player| {
            tokio::spawn(async move {
                let declared = player.declare().await;
                (player, declared)
            })
        })
        .collect();
    let mut results = Vec::with_capacity(all.len());
    for one in all {
        let (player, declared) = one.await?;
        team.push(player);
        results.push(declared?);
    }
    Ok(results)
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, rounds, block, .. } = self;
        write!(f, "{clients} at once, {rounds} rounds, {block} in a row:")
    }
}

impl Summary {
    pub(crate) fn new(name: String, transactions: usize, declared: &[Declared]) -> Self {
        let ms: Vec<f64> = declared.iter().map(|d| d.elapsed.as_secs_f64() * 1e3).collect();
        let mut sorted_ms = ms.clone();
        sorted_ms.sort_by(f64::total_cmp);
        let missing = declared.iter().map(|d| d.missing).sum();
        Self { name, transactions, ms, sorted_ms, missing }
    }

    /// The smallest time, in milliseconds, that `percent` of the declarations did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.sorted_ms, percent)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "declarations": self.ms.len(),
            "missing_txs": self.missing,
            "min_ms": self.percentile(0.0),
            "p50_ms": self.percentile(50.0),
            "p90_ms": self.percentile(90.0),
            "p99_ms": self.percentile(99.0),
            "max_ms": self.percentile(100.0),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, p50, p90, p99, max] = [0.0, 50.0, 90.0, 99.0, 100.0].map(|p| self.percentile(p));
        write!(
            f,
            "{:<10} {} declarations of {} transactions ({} asked for): min {min:.2} ms, p50 \
             {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, max {max:.2}",
            self.name,
            self.ms.len(),
            self.transactions,
            self.missing,
        )
    }
}

/// The middle one; 0 of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 50.0)
}

/// Nearest rank.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
