//! Events delivered by HTTP POST: at least once, in order, signed.
//!
//! One task per webhook, reading from the log after a cursor that is kept in the store. A receiver
//! that hangs or fails holds up its own deliveries alone.

mod post;
mod task;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use store::{Batch, Change, Cursor, Status, Webhook};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;

pub(crate) use post::{Poster, Reach, check_url};

use crate::app::{Reader, now_ms};
use crate::limits;
use crate::metrics::Metrics;
use crate::problem::Problem;

/// How far a webhook is, for metrics and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) cursor: Cursor,
    pub(crate) failures: u32,
    pub(crate) lost: bool,
}

impl Progress {
    fn of(hook: &Webhook) -> Self {
        Self { cursor: hook.cursor, failures: hook.failures, lost: is_lost(hook) }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lost || self.failures >= limits::WEBHOOK_DEAD_FAILURES
    }
}

/// How the last error begins when a webhook stopped because its events are gone.
pub(crate) const LOST: &str = "events are gone: ";

/// True when it stopped because its events are gone: it goes on when it is given a new cursor.
pub(crate) fn is_lost(hook: &Webhook) -> bool {
    hook.last_error.as_deref().is_some_and(|error| error.starts_with(LOST))
}

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) reader: Reader,
    pub(crate) metrics: Metrics,
    pub(crate) poster: Poster,
    pub(crate) stopping: watch::Receiver<bool>,
    /// [`limits::WEBHOOK_REST_WRITE_PAUSE`].
    rest_write_pause: Duration,
    progress: Mutex<HashMap<String, Progress>>,
}

impl Shared {
    fn note(&self, hook: &Webhook) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(hook.id.clone(), Progress::of(hook));
    }

    fn forget(&self, id: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.metrics.forget_webhook(id);
    }
}

/// All webhooks.
pub(crate) struct Deliverer {
    shared: Arc<Shared>,
    /// Held while a webhook is changed, so that its task and the change do not cross.
    tasks: AsyncMutex<HashMap<String, JoinHandle<()>>>,
}

impl Deliverer {
    pub(crate) fn new(
        reader: Reader,
        metrics: Metrics,
        poster: Poster,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let (rest_write_pause, progress) = (limits::WEBHOOK_REST_WRITE_PAUSE, Mutex::default());
        let shared = Shared { reader, metrics, poster, stopping, rest_write_pause, progress };
        Self { shared: Arc::new(shared), tasks: AsyncMutex::default() }
    }

    /// Keeps to what the store holds, until the server stops: at the start all of it is taken up,
    /// later what the store wrote after nobody waited for it any more.
    pub(crate) async fn keep_up(&self) {
        let mut stopping = self.shared.stopping.clone();
        loop {
            let pause = match self.take_up().await {
                Ok(()) => limits::WEBHOOK_TAKE_UP_PAUSE,
                Err(problem) => {
                    tracing::warn!(error = problem.detail, "webhooks wait");
                    limits::WEBHOOK_RETRY_MIN
                }
            };
            let stop = async { stopping.wait_for(|stop| *stop).await.is_ok() };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop => return,
            }
        }
    }

    /// Runs every webhook that the store holds, and none that it does not.
    async fn take_up(&self) -> Result<(), Problem> {
        // Held over the read: what is created meanwhile must not be taken up twice.
        let mut tasks = self.tasks.lock().await;
        let hooks = self.shared.reader.read(|store| store.webhooks()).await?;
        // While it can not write, the store may have acknowledged more than it can read.
        if self.shared.reader.store.status() == Status::Healthy {
            let held = |id: &String| hooks.iter().any(|hook| hook.id == *id);
            let gone: Vec<_> = tasks.keys().filter(|id| !held(id)).cloned().collect();
            for id in gone {
                stop(&mut tasks, &id).await;
                self.shared.forget(&id);
            }
        }
        for hook in hooks {
            if !tasks.contains_key(&hook.id) {
                self.run(&mut tasks, hook);
            }
        }
        Ok(())
    }

    /// How far each webhook is.
    pub(crate) fn progress(&self) -> Vec<(String, Progress)> {
        let progress = self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = progress.iter().map(|(id, hook)| (id.clone(), *hook)).collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// How far it is now. What is stored lags behind where it passes events that it does not want.
    pub(crate) fn cursor(&self, hook: &Webhook) -> Cursor {
        let progress = self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.get(&hook.id).map_or(hook.cursor, |progress| progress.cursor)
    }

    /// Creates a webhook.
    ///
    /// # Errors
    /// When the store refuses it (too many), or is not available.
    pub(crate) async fn create(&self, hook: Webhook) -> Result<(), Problem> {
        let mut tasks = self.tasks.lock().await;
        let batch = Batch::new(now_ms()).change(Change::PutWebhook(hook.clone()));
        self.shared.reader.commit(batch).await?;
        self.run(&mut tasks, hook);
        Ok(())
    }

    /// Changes a webhook while its task rests; `None` when there is none.
    ///
    /// # Errors
    /// When the store is not available.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Webhook),
    ) -> Result<Option<Webhook>, Problem> {
        let mut tasks = self.tasks.lock().await;
        stop(&mut tasks, id).await;
        let Some(hook) = self.find(id).await? else {
            return Ok(None);
        };
        let mut changed = hook.clone();
        change(&mut changed);
        let batch = Batch::new(now_ms()).change(Change::PutWebhook(changed.clone()));
        let committed = self.shared.reader.commit(batch).await;
        // It goes on as it was when the change failed.
        self.run(&mut tasks, if committed.is_ok() { changed.clone() } else { hook });
        committed.map(|_| Some(changed))
    }

    /// Removes a webhook; false when there is none.
    ///
    /// # Errors
    /// When the store is not available.
    pub(crate) async fn delete(&self, id: &str) -> Result<bool, Problem> {
        let mut tasks = self.tasks.lock().await;
        let Some(hook) = self.find(id).await? else {
            return Ok(false);
        };
        stop(&mut tasks, id).await;
        let batch = Batch::new(now_ms()).change(Change::DeleteWebhook { id: id.to_owned() });
        if let Err(problem) = self.shared.reader.commit(batch).await {
            self.run(&mut tasks, hook);
            return Err(problem);
        }
        self.shared.forget(id);
        Ok(true)
    }

    /// Ends all deliveries and waits until they have ended.
    pub(crate) async fn stop(&self) {
        let mut tasks = self.tasks.lock().await;
        let ids: Vec<_> = tasks.keys().cloned().collect();
        for id in ids {
            stop(&mut tasks, &id).await;
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Webhook>, Problem> {
        let id = id.to_owned();
        self.shared.reader.read(move |store| store.webhook(&id)).await
    }

    fn run(&self, tasks: &mut HashMap<String, JoinHandle<()>>, hook: Webhook) {
        self.shared.note(&hook);
        if !hook.paused {
            let id = hook.id.clone();
            tasks.insert(id, tokio::spawn(task::run(Arc::clone(&self.shared), hook)));
        }
    }
}

/// Ends a task and waits until it has ended. What it has handed to the store is written; a delivery
/// under way may come again.
async fn stop(tasks: &mut HashMap<String, JoinHandle<()>>, id: &str) {
    if let Some(task) = tasks.remove(id) {
        task.abort();
        let _ = task.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use std::path::Path;
    use store::SqliteStore;

    fn deliverer(dir: &Path, stopping: watch::Receiver<bool>) -> Deliverer {
        deliverer_writing(dir, stopping, limits::WEBHOOK_REST_WRITE_PAUSE)
    }

    fn deliverer_writing(
        dir: &Path,
        stopping: watch::Receiver<bool>,
        rest_write_pause: Duration,
    ) -> Deliverer {
        let store = Arc::new(SqliteStore::open(store::Settings::new(dir)).unwrap());
        let settings = crate::Settings::new("127.0.0.1:0".parse().unwrap(), Network::Regtest);
        let poster = Poster::new(Reach::new(&settings));
        let mut deliverer = Deliverer::new(Reader::new(store), Metrics::new(), poster, stopping);
        Arc::get_mut(&mut deliverer.shared).unwrap().rest_write_pause = rest_write_pause;
        deliverer
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.unwrap_or_else(|_| panic!("waited 30 s for {what}"));
    }

    fn at_height(height: u32) -> store::NodeStatus {
        store::NodeStatus {
            kind: None,
            node: "main".to_owned(),
            state: "at_tip".to_owned(),
            height: Some(height),
            detail: None,
        }
    }

    /// Has a webhook pass events that it does not want; its live cursor and the stored one are then
    /// what `condition` waits for.
    async fn pass_events(rest_write_pause: Duration, condition: impl Fn(u64, u64) -> bool) {
        let dir = tempfile::tempdir().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let deliverer = deliverer_writing(dir.path(), stopping, rest_write_pause);
        let store = Arc::clone(&deliverer.shared.reader.store);
        let cursor = Cursor { epoch: Some(store.epoch()), id: 0 };
        let hook = Webhook { types: "block_found".to_owned(), cursor, ..hook() };
        deliverer.create(hook.clone()).await.unwrap();
        for number in 1..=3 {
            store.commit(Batch::of_event(1, at_height(number))).await.unwrap();
        }
        let stored = || store.webhook("hook").unwrap().unwrap().cursor.id;
        until("the cursor to move", || condition(deliverer.cursor(&hook).id, stored())).await;
        assert_eq!(deliverer.progress()[0].1.cursor.id, deliverer.cursor(&hook).id);
        deliverer.stop().await;
    }

    #[tokio::test]
    async fn at_rest_the_cursor_is_written_down() {
        pass_events(Duration::from_millis(1), |live, stored| (live, stored) == (3, 3)).await;
    }

    #[tokio::test]
    async fn at_rest_the_cursor_is_not_written_down_all_the_time() {
        let stored_early = std::cell::Cell::new(false);
        pass_events(Duration::from_secs(3_600), |live, stored| {
            stored_early.set(stored_early.get() || stored > 0);
            live == 3
        })
        .await;
        assert!(!stored_early.get());
    }

    /// Where the stored cursor is once a webhook has passed so many events that were there before.
    async fn written_after(events: u32, written: u32) {
        let dir = tempfile::tempdir().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let hour = Duration::from_secs(3_600);
        let deliverer = deliverer_writing(dir.path(), stopping, hour);
        let store = Arc::clone(&deliverer.shared.reader.store);
        let event = |batch: Batch, number| batch.event(at_height(number));
        store.commit((1..=events).fold(Batch::new(1), event)).await.unwrap();
        let cursor = Cursor { epoch: Some(store.epoch()), id: 0 };
        let hook = Webhook { types: "block_found".to_owned(), cursor, ..hook() };
        deliverer.create(hook.clone()).await.unwrap();
        let places =
            || (deliverer.cursor(&hook).id, store.webhook("hook").unwrap().unwrap().cursor.id);
        until("the events to pass", || places() == (events.into(), written.into())).await;
        deliverer.stop().await;
    }

    #[tokio::test]
    async fn the_cursor_is_written_down_before_too_many_have_passed() {
        let most = limits::WEBHOOK_SKIPPED_EVENTS_MAX as u32;
        written_after(most, 0).await;
        written_after(most + 1, most + 1).await;
    }

    fn hook() -> Webhook {
        Webhook {
            id: "hook".to_owned(),
            url: "http://127.0.0.1:9/".to_owned(),
            secret: "0123456789abcdef".to_owned(),
            types: String::new(),
            cursor: Cursor::START,
            paused: false,
            failures: 0,
            last_error: None,
            created_at: 1,
            delivered_at: None,
        }
    }

    #[tokio::test]
    async fn a_webhook_made_before_the_others_are_taken_up_has_one_task() {
        let dir = tempfile::tempdir().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let deliverer = deliverer(dir.path(), stopping);
        deliverer.create(hook()).await.unwrap();
        let task = deliverer.tasks.lock().await["hook"].id();
        deliverer.take_up().await.unwrap();
        let tasks = deliverer.tasks.lock().await;
        assert_eq!((tasks.len(), tasks["hook"].id()), (1, task));
    }

    #[tokio::test]
    async fn what_the_store_wrote_after_nobody_waited_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let deliverer = deliverer(dir.path(), stopping);
        let write = |change| deliverer.shared.reader.commit(Batch::new(1).change(change));
        write(Change::PutWebhook(hook())).await.unwrap();
        deliverer.take_up().await.unwrap();
        assert!(deliverer.tasks.lock().await.contains_key("hook"));
        assert_eq!(deliverer.progress().len(), 1);
        write(Change::DeleteWebhook { id: "hook".to_owned() }).await.unwrap();
        deliverer.take_up().await.unwrap();
        assert!(deliverer.tasks.lock().await.is_empty());
        assert_eq!(deliverer.progress(), []);
    }
}
