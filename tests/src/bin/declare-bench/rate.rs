//! Declarations at a steady rate, with a store behind the server and without one.
//!
//! Each declaration has its moment; its time counts from there, whether or not the one before it has
//! its answer (no coordinated omission).

use std::time::Duration;

use anyhow::{Context, ensure};
use jds_tests::bench::{Material, Target};
use tokio::time::{Instant, sleep_until};

use crate::player::{Declared, Player};
use crate::rounds::Summary;

/// Clients that share the rate.
const CLIENTS: u32 = 20;
/// How long it is one server's turn.
const TURN: Duration = Duration::from_secs(2);

/// So many declarations a second for so long, against each of several servers in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    /// Of each server.
    pub(crate) turns: u32,
}

impl Rate {
    /// Plays all turns.
    pub(crate) async fn run(
        self,
        targets: &[Target],
        node: &Material,
        user: &str,
    ) -> anyhow::Result<Vec<Summary>> {
        ensure!(self.per_second >= CLIENTS, "--rate is {CLIENTS} a second at least");
        let mut teams = Vec::new();
        for target in targets {
            let mut team = Vec::new();
            for number in 0..CLIENTS {
                team.push(Player::connect(target, format!("{user}-{number}"), node).await?);
            }
            teams.push(team);
        }
        let mut declared = vec![Vec::new(); teams.len()];
        // The first turn of each warms up.
        for turn in 0..=self.turns {
            for ((team, declared), target) in teams.iter_mut().zip(&mut declared).zip(targets) {
                let all = self.turn(team).await.with_context(|| target.name.clone())?;
                if turn > 0 {
                    declared.extend(all);
                }
            }
        }
        let summary = |(target, declared): (&Target, Vec<Declared>)| {
            Summary::new(target.name.clone(), node.txs.len(), &declared)
        };
        Ok(targets.iter().zip(declared).map(summary).collect())
    }

    async fn turn(self, team: &mut Vec<Player>) -> anyhow::Result<Vec<Declared>> {
        let (start, interval) = (Instant::now(), Duration::from_secs(1) / self.per_second);
        let each = (TURN.as_millis() / (interval * CLIENTS).as_millis().max(1)) as u32;
        let mut tasks = Vec::new();
        for (number, mut player) in (0..CLIENTS).zip(team.drain(..)) {
            tasks.push(tokio::spawn(async move {
                let mut declared = Vec::new();
                for round in 0..each {
                    let due = start + interval * (round * CLIENTS + number);
                    sleep_until(due).await;
                    let Declared { missing, .. } = player.declare().await?;
                    declared.push(Declared { elapsed: due.elapsed(), missing });
                }
                anyhow::Ok((player, declared))
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            let (player, declared) = task.await??;
            team.push(player);
            all.extend(declared);
        }
        Ok(all)
    }
}
