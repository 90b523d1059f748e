//! Where miners connect: Stratum V2 and Stratum V1 side by side (SV2 5), on the pool's own work and
//! on jobs that miners chose.
//!
//! The protocols are state machines of the crate `mining`; here are their sockets, what they work
//! on, what becomes of their shares, and their blocks' way to the nodes.

mod checks;
pub(crate) mod connection;
pub mod custom;
mod durable;
mod feed;
mod lines;
mod link;
pub(crate) mod records;
mod room;
mod source;

use std::sync::Arc;
use std::time::Instant;

use config::Checked;
use mining::deps::Extranonces;
use mining::{Deps, JobBytes, Now, Settings};
use tokio::task::JoinSet;

use crate::clock;
use crate::counts::Gauge;
use crate::nodes::Nodes;
use crate::payout::PayoutTerms;
use crate::templates::{Pace, Templates};
use custom::CustomJobs;
use feed::Feed;

/// What all connections of miners share.
#[derive(Debug)]
pub struct Mining {
    /// What the sessions share.
    pub deps: Arc<Deps>,
    pub(crate) feed: Feed,
    /// Checks the miners' jobs.
    pub custom_jobs: Arc<CustomJobs>,
    /// What all connections hold until it is durable, by [`crate::limits::SHARES_HELD_MAX`].
    pub(crate) held: Gauge,
    /// There is a port for Stratum V2.
    pub listens: bool,
    /// There is one for Stratum V1.
    pub listens_v1: bool,
}

impl Mining {
    /// As configured; follows the nodes for as long as `tasks` live. None when no block has room
    /// for the outputs that are configured.
    pub(crate) fn start(
        config: &Checked,
        settings: &config::Mining,
        custom_jobs: Arc<CustomJobs>,
        nodes: &Arc<Nodes>,
        tasks: &mut JoinSet<()>,
    ) -> Option<Arc<Self>> {
        let (fee_threshold_sat, min_interval) = (settings.fee_threshold_sat, settings.min_interval);
        let templates = Templates::new(config.network, Pace { fee_threshold_sat, min_interval });
        templates.follow(nodes, tasks);
        let room = feed::room(&config.payout)?;
        let feed = feed::follow(templates, room, tasks);
        Some(Arc::new(Self {
            deps: Arc::new(deps(config, settings)),
            feed,
            custom_jobs,
            held: Gauge::default(),
            listens: settings.listen.is_some(),
            listens_v1: settings.sv1_listen.is_some(),
        }))
    }
}

fn deps(config: &Checked, settings: &config::Mining) -> Deps {
    let payout = PayoutTerms::new(config.network, config.payout.clone());
    Deps {
        network: config.network,
        settings: Settings {
            shares_per_minute: settings.shares_per_minute as f32,
            share_batch_size: settings.share_batch_size as u32,
            min_hashrate: settings.min_hashrate as f32,
            sv1_start_hashrate: settings.sv1_start_hashrate as f32,
            pool_tag: settings.pool_tag.clone(),
            channels_per_connection_max: settings.max_channels_per_connection,
            custom_jobs: config.job_declaration.full_template
                || config.job_declaration.coinbase_only,
        },
        extranonces: Extranonces::new(start_of_extranonces()),
        custom_job_bytes: JobBytes::default(),
        terms: Box::new(move |identity| {
            let terms = payout.for_user(identity.as_bytes()).map_err(|error| error.to_string())?;
            Ok(terms.rules)
        }),
    }
}

/// Random, the first byte unlike all others.
fn start_of_extranonces() -> [u8; 4] {
    let [first, rest @ ..]: [u8; 4] = rand::random();
    let [second, third, fourth] = rest.map(|byte| byte & 0x7f);
    [first | 0x80, second, third, fourth]
}

/// The time at which something came.
pub(crate) fn now() -> Now {
    let unix_s = u32::try_from(clock::unix_s()).unwrap_or(u32::MAX);
    Now { instant: Instant::now(), unix_s }
}
