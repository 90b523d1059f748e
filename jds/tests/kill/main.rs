//! A server that is killed at random moments has lost nothing that it acknowledged.
//!
//! `jds run` before a real node, under the load of several miners, is killed with SIGKILL again and
//! again: under load, around solutions, right after an answer, and while it starts. After each kill
//! its database and its events are compared with what the miners were told; after each restart what
//! it acknowledged before has to be worth something. `SERVER_KILL_ROUNDS` sets the rounds,
//! `SERVER_KILL_SEED` repeats the choices of a run (not its timing).

#[path = "../common/mod.rs"]
mod common;
mod events;
mod kept;
mod miners;
mod notes;
mod work;
mod world;

use std::time::{Duration, Instant};

use notes::Notes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use world::World;

/// Longest wait for anything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: &str = "SERVER_KILL_ROUNDS";
const ROUNDS_DEFAULT: u32 = 50;
const SEED: &str = "SERVER_KILL_SEED";
/// Rounds of one node and one data directory: a chain of a regtest can not grow for ever.
const ROUNDS_PER_WORLD: u32 = 100;
/// In fewer rounds it may be that nothing much happens.
const ROUNDS_JUDGED_MIN: u32 = 10;

#[expect(clippy::unwrap_used, reason = "a variable that is no number")]
fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let rounds = number(ROUNDS).unwrap_or(ROUNDS_DEFAULT);
    let seed = number(SEED).unwrap_or_else(|| rand::thread_rng().r#gen::<u64>());
    eprintln!("{rounds} rounds, {SEED}={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let begin = Instant::now();
    let mut done = 0;
    while done < rounds {
        let world = World::new(StdRng::seed_from_u64(rng.r#gen()));
        let mut world = world.unwrap_or_else(|error| panic!("no world: {error:#}"));
        let rounds_here = ROUNDS_PER_WORLD.min(rounds - done);
        let mut notes = Notes::default();
        for round in done..=done + rounds_here {
            let last = std::mem::take(&mut notes);
            let result = match round {
                round if round == done + rounds_here => world.finish(last).await,
                _ => world.round(last).await.map(|noted| notes = noted),
            };
            if let Err(error) = result {
                let (dir, log) = world.keep();
                let dir = dir.display();
                panic!("{SEED}={seed}, round {round}: {error:#}\nkept in {dir}\n{log}");
            }
        }
        done += rounds_here;
        let stats = world.stats;
        eprintln!("{done} rounds in {} s: {stats:?}", begin.elapsed().as_secs());
        // What this test is about has to have happened.
        let happened =
            [stats.accepted, stats.rejected, stats.late_blocks, stats.tokens_tried_again];
        let enough = happened.iter().all(|count| *count >= rounds_here);
        let enough = enough || rounds_here < ROUNDS_JUDGED_MIN;
        assert!(enough, "{SEED}={seed}: too little happened in {rounds_here} rounds: {stats:?}");
    }
}
