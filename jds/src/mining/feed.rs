//! What the pool's miners work on: the nodes' templates, each with room for the pool's coinbase.
//!
//! A new tip needs no template of a node: work without transactions goes out at once, the full one
//! follows. Each connection takes the newest when its line is free.

use std::sync::Arc;

use bitcoin::{ScriptBuf, TxOut};
use jds_wire::message::template::CoinbaseOutputConstraints;
use mining::{PoolWork, Source};
use template_distribution_sv2::{NewTemplate, NewTemplateOwned};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use crate::clock;
use crate::limits::{PAYOUT_SCRIPT_BYTES_MAX, WORK_REFRESH_INTERVAL};
use crate::templates::{Built, Room, Templates, View};

/// Value of an output, bytes.
const VALUE_BYTES: usize = 8;
/// What a signature check in a coinbase costs (BIP 141).
const SIGOP_COST: usize = 4;

/// The newest work; none until a node has told a tip.
pub(crate) type Feed = watch::Receiver<Option<Arc<PoolWork>>>;

/// Room for transactions beside a coinbase that pays as configured. None when there is no block
/// that could.
pub(crate) fn room(payout: &config::Payout) -> Option<Room> {
    // In solo mode each user names an address, of which none has a longer script.
    let users = ScriptBuf::from_bytes(vec![0; PAYOUT_SCRIPT_BYTES_MAX]);
    let (scripts, sigops): (Vec<&ScriptBuf>, usize) = match payout {
        config::Payout::Pool { script, .. } => (vec![script], 0),
        config::Payout::Solo { operator } => {
            (operator.iter().map(|(script, _)| script).chain([&users]).collect(), 1)
        }
    };
    let output = |script: &&ScriptBuf| {
        TxOut { value: bitcoin::Amount::ZERO, script_pubkey: (*script).clone() }.size()
    };
    let size: usize = scripts.iter().map(output).sum();
    let sigops = sigops + scripts.iter().map(|script| script.count_sigops_legacy()).sum::<usize>();
    debug_assert!(size >= VALUE_BYTES, "somebody is paid");
    Room::beside(&CoinbaseOutputConstraints {
        max_additional_size: u32::try_from(size).ok()?,
        max_additional_sigops: u16::try_from(sigops * SIGOP_COST).ok()?,
    })
}

/// Makes work of templates for as long as `tasks` live.
pub(crate) fn follow(templates: Arc<Templates>, room: Room, tasks: &mut JoinSet<()>) -> Feed {
    let (newest, feed) = watch::channel(None);
    tasks.spawn(run(templates, room, newest));
    feed
}

async fn run(templates: Arc<Templates>, room: Room, newest: watch::Sender<Option<Arc<PoolWork>>>) {
    // Told, so that ours is made together with the view.
    let _registered = templates.register(room);
    let mut views = templates.watch();
    let mut number = 0;
    let mut refresh_at = Instant::now() + WORK_REFRESH_INTERVAL;
    loop {
        let view = views.borrow_and_update().clone();
        if let Some(view) = view
            && view.serves(&room)
            && let Some(built) = built(&templates, &view, room).await
            && let Some(template) = template(&built)
        {
            number += 1;
            let work = work(number, &built, template);
            debug!(
                number,
                height = work.tip.next_height(),
                txs = work.tx_count,
                "new work for miners"
            );
            newest.send_replace(Some(Arc::new(work)));
            refresh_at = Instant::now() + WORK_REFRESH_INTERVAL;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            // The time that a job may be mined with is bounded: the same again, from now on.
            () = sleep_until(refresh_at) => refresh_at = Instant::now() + WORK_REFRESH_INTERVAL,
        }
    }
}

async fn built(templates: &Arc<Templates>, view: &Arc<View>, room: Room) -> Option<Arc<Built>> {
    if let Some(built) = view.ready(&room) {
        return Some(built);
    }
    let (templates, view) = (Arc::clone(templates), Arc::clone(view));
    let build = tokio::task::spawn_blocking(move || templates.build(&view, &room));
    build.await.inspect_err(|panicked| error!(%panicked, "making work ended abnormally")).ok()
}

fn work(number: u64, built: &Arc<Built>, template: NewTemplateOwned) -> PoolWork {
    let now = u32::try_from(clock::unix_s()).unwrap_or(u32::MAX);
    PoolWork {
        number,
        tip: *built.tip(),
        min_ntime: built.first_ntime(now),
        template,
        tx_count: u32::try_from(built.txs().len() + 1).unwrap_or(u32::MAX),
        source: Arc::clone(built) as Arc<dyn Source>,
    }
}

/// The message that clients of template distribution get, as the channels want it.
fn template(built: &Built) -> Option<NewTemplateOwned> {
    let mut message = built.message(false).to_vec();
    match binary_sv2::from_bytes::<NewTemplate<'_>>(&mut message) {
        Ok(template) => Some(template.into_owned()),
        // A defect of ours.
        Err(error) => {
            error!(?error, "a template of ours does not decode");
            None
        }
    }
}
