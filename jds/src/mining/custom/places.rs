//! Places for custom jobs that wait for our node, of which nobody can take all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::{CUSTOM_JOBS_WAITING_MAX, CUSTOM_JOBS_WAITING_PER_CONNECTION_MAX};

/// At most [`CUSTOM_JOBS_WAITING_MAX`], and [`CUSTOM_JOBS_WAITING_PER_CONNECTION_MAX`] of each connection.
/// When all are taken, the connection that has most loses its newest to one that has fewer.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// By connection, the newest last; none of them is empty.
    lists: HashMap<u64, Vec<Arc<Notify>>>,
}

/// A place. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    connection: u64,
    lost: Arc<Notify>,
}

impl Places {
    /// Takes one for a job of that connection; none when there is none for it.
    pub(super) fn take(&self, connection: u64) -> Option<Place<'_>> {
        let mut taken = self.lock();
        let own = taken.lists.get(&connection).map_or(0, Vec::len);
        if own >= CUSTOM_JOBS_WAITING_PER_CONNECTION_MAX {
            return None;
        }
        if taken.count >= CUSTOM_JOBS_WAITING_MAX {
            let lengths = taken.lists.iter().map(|(connection, list)| (list.len(), *connection));
            let (most, loser) = lengths.max()?;
            if most <= own + 1 {
                return None;
            }
            let lost = taken.lists.get_mut(&loser)?.pop()?;
            taken.count -= 1;
            lost.notify_one();
        }
        let lost = Arc::new(Notify::new());
        taken.lists.entry(connection).or_default().push(Arc::clone(&lost));
        taken.count += 1;
        Some(Place { places: self, connection, lost })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // A panic while the lock was held can only have left valid lists behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Returns when somebody else has got it. Cancellation-safe.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let Some(list) = taken.lists.get_mut(&self.connection) else { return };
        // It may be another's by now.
        let Some(at) = list.iter().position(|place| Arc::ptr_eq(place, &self.lost)) else { return };
        list.remove(at);
        if list.is_empty() {
            taken.lists.remove(&self.connection);
        }
        taken.count -= 1;
    }
}

#[cfg(test)]
impl Places {
    /// Places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: usize = CUSTOM_JOBS_WAITING_PER_CONNECTION_MAX;

    #[test]
    fn no_connection_takes_all_places() {
        let places = Places::default();
        let own: Vec<_> = (0..EACH).map(|_| places.take(1).expect("a place")).collect();
        assert!(places.take(1).is_none() && places.take(2).is_some());
        drop(own);
        assert!(places.take(1).is_some());
        assert_eq!((places.taken(), places.lock().lists.len()), (0, 0));
    }

    #[tokio::test]
    async fn when_all_are_taken_who_has_most_loses_the_newest_to_who_has_fewer() {
        let places = Places::default();
        let crowd = CUSTOM_JOBS_WAITING_MAX - EACH;
        let _crowd: Vec<_> = (0..crowd as u64).map(|number| places.take(100 + number)).collect();
        let mut greedy: Vec<_> = (0..EACH).map(|_| places.take(1).expect("a place")).collect();
        assert_eq!(places.taken(), CUSTOM_JOBS_WAITING_MAX);
        let mut honest = Vec::new();
        // One remains for the greedy one when all the others are of somebody else.
        for number in 0..EACH as u64 - 1 {
            honest.push(places.take(10 + number).expect("a place"));
            greedy.pop().expect("its newest").lost().await;
            assert_eq!(places.taken(), CUSTOM_JOBS_WAITING_MAX);
        }
        assert!(places.take(50).is_none(), "nobody has more than one");
        drop(honest.pop());
        assert!(places.take(50).is_some());
    }
}
