//! The deliveries of one webhook.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use store::{Batch, Change, Cursor, Event, EventFilter, EventPage, Webhook};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{LOST, Shared};
use crate::app::now_ms;
use crate::limits;
use crate::problem::{Kind, Problem};

/// What is posted.
#[derive(Serialize)]
struct Delivery<'a> {
    webhook: &'a str,
    epoch: String,
    events: &'a [Event],
    next: String,
}

/// Delivers until the server stops or the webhook can not go on.
pub(super) async fn run(shared: Arc<Shared>, mut hook: Webhook) {
    let filter = match EventFilter::parse(&hook.types) {
        Ok(filter) => filter,
        Err(error) => {
            hook.last_error = Some(error.to_string());
            shared.note(&hook);
            return;
        }
    };
    let mut stopping = shared.stopping.clone();
    let stop = async { stopping.wait_for(|stop| *stop).await.is_ok() };
    tokio::select! {
        () = deliver(&shared, &mut hook, filter) => {}
        _ = stop => {}
    }
}

/// What of a cursor is written down, and since when.
struct Written {
    cursor: Cursor,
    at: Instant,
}

impl Written {
    fn now(hook: &Webhook) -> Self {
        Self { cursor: hook.cursor, at: Instant::now() }
    }

    /// Whether so much was passed since that retention could overtake it.
    fn is_far_behind(&self, cursor: Cursor) -> bool {
        self.cursor.epoch != cursor.epoch
            || cursor.id.saturating_sub(self.cursor.id) > limits::WEBHOOK_SKIPPED_EVENTS_MAX
    }
}

async fn deliver(shared: &Shared, hook: &mut Webhook, filter: EventFilter) {
    let mut last = shared.reader.store.watch();
    let mut written = Written::now(hook);
    loop {
        // Marked as seen before the read, so that nothing falls in between.
        last.borrow_and_update();
        let cursor = hook.cursor;
        let read = move |store: &dyn store::Store| {
            store.events_after(cursor, &filter, limits::WEBHOOK_EVENTS_PER_DELIVERY)
        };
        let page = match shared.reader.read(read).await {
            Ok(page) => page,
            Err(problem) if problem.kind == Kind::CursorGone => {
                return lost(shared, hook, &problem).await;
            }
            Err(problem) => {
                tracing::debug!(webhook = hook.id, error = problem.detail, "a webhook waits");
                sleep(limits::WEBHOOK_RETRY_MIN).await;
                continue;
            }
        };
        if page.events.is_empty() {
            hook.cursor = page.next;
            shared.note(hook);
            if written.is_far_behind(hook.cursor) {
                record(shared, hook).await;
                written = Written::now(hook);
            }
            if !page.more && !rest(shared, hook, &mut written, &mut last).await {
                return;
            }
            continue;
        }
        attempt(shared, hook, &page).await;
        written = Written::now(hook);
        if hook.failures > 0 {
            sleep(pause(hook.failures)).await;
        }
    }
}

/// Waits for events; false when there can be none any more. What it has passed is written down
/// meanwhile, so that after a restart it does not begin far behind.
async fn rest(
    shared: &Shared,
    hook: &Webhook,
    written: &mut Written,
    last: &mut watch::Receiver<u64>,
) -> bool {
    let unwritten = written.cursor != hook.cursor;
    let changed = tokio::select! {
        // First: where events come all the time, it is due all the same.
        biased;
        () = sleep_until(written.at + shared.rest_write_pause), if unwritten => {
            record(shared, hook).await;
            *written = Written::now(hook);
            last.changed().await
        }
        changed = last.changed() => changed,
    };
    sleep(limits::EVENT_READ_PAUSE).await;
    changed.is_ok()
}

async fn attempt(shared: &Shared, hook: &mut Webhook, page: &EventPage) {
    let delivery = Delivery {
        webhook: &hook.id,
        epoch: shared.reader.store.epoch().to_string(),
        events: &page.events,
        next: page.next.to_string(),
    };
    let result = match serde_json::to_vec(&delivery) {
        Ok(body) => shared.poster.post(hook, body).await,
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => {
            hook.cursor = page.next;
            hook.failures = 0;
            hook.last_error = None;
            hook.delivered_at = Some(now_ms());
            shared.metrics.delivery(&hook.id, "delivered");
        }
        Err(error) => {
            hook.failures = hook.failures.saturating_add(1);
            hook.last_error = Some(kept(&error));
            shared.metrics.delivery(&hook.id, "failed");
            if hook.failures == limits::WEBHOOK_DEAD_FAILURES {
                tracing::warn!(
                    webhook = hook.id,
                    error,
                    "a webhook is dead: it has failed for long"
                );
            }
        }
    }
    record(shared, hook).await;
    shared.note(hook);
}

/// What is kept of an error.
fn kept(error: &str) -> String {
    error.chars().take(limits::WEBHOOK_ERROR_CHARS_MAX).collect()
}

/// Writes down how far it is. When that fails, a delivery comes again after a restart.
async fn record(shared: &Shared, hook: &Webhook) {
    let progress = Change::WebhookProgress {
        id: hook.id.clone(),
        cursor: hook.cursor,
        failures: hook.failures,
        last_error: hook.last_error.clone(),
        delivered_at: hook.delivered_at,
    };
    let commit = shared.reader.store.commit(Batch::new(now_ms()).change(progress));
    if !matches!(timeout(limits::STORE_WRITE_WAIT, commit).await, Ok(Ok(_))) {
        tracing::debug!(webhook = hook.id, "the progress of a webhook could not be written down");
    }
}

/// What it was to get next is not kept any more. Nobody but the operator can say whether the
/// receiver can do without, so it stops, visibly.
async fn lost(shared: &Shared, hook: &mut Webhook, problem: &Problem) {
    hook.last_error = Some(format!("{LOST}{}", problem.detail));
    tracing::warn!(webhook = hook.id, error = problem.detail, "a webhook stopped");
    record(shared, hook).await;
    shared.note(hook);
}

/// How long to wait after so many failures in a row: doubling, with a quarter at random, so that
/// receivers of many hooks are not hit by all at once.
fn pause(failures: u32) -> Duration {
    let doubled = limits::WEBHOOK_RETRY_MIN
        .saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(limits::WEBHOOK_RETRY_MAX);
    doubled.mul_f64(1.0 - 0.25 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_error_so_much_is_kept() {
        let most = "é".repeat(limits::WEBHOOK_ERROR_CHARS_MAX);
        assert_eq!(kept(&most), most);
        assert_eq!(kept(&format!("{most}é")), most);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        for (failures, longest_s) in
            [(1, 1), (2, 2), (5, 16), (11, 600), (40, 600), (u32::MAX, 600)]
        {
            let longest = Duration::from_secs(longest_s);
            let pause = pause(failures);
            assert!(pause <= longest && pause >= longest.mul_f64(0.74), "{failures}: {pause:?}");
        }
    }
}
