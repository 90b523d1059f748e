//! Which jobs are kept: by connection, within bounds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bitcoin::BlockHash;
use validation::declared::TemplateHash;

use super::{Job, Jobs, lock};
use crate::limits::{
    JOB_BYTES_PER_CONNECTION_MAX, JOB_BYTES_TOTAL_MAX, JOBS_PER_CONNECTION_MAX, JOBS_TOTAL_MAX,
    SOLUTION_JOBS_MAX,
};
use crate::token::UserTag;

/// The jobs of one connection.
#[derive(Debug)]
struct Group {
    /// Gone when the connection is.
    declarer: Weak<u64>,
    /// Newest first, never empty.
    jobs: VecDeque<Arc<Job>>,
    /// Of all of them together; a transaction that several hold counts for each.
    own_bytes: usize,
}

/// What a solution and its job have in common: the block that they build on, and the length of the
/// extranonce in bytes.
type Work = (BlockHash, usize);

fn work_of(job: &Job) -> Work {
    (job.accepted.prev_hash(), job.accepted.coinbase().extranonce_len())
}

/// Groups of jobs by connection number. Everything that is taken out is handed to the caller, to
/// be dropped after the lock.
#[derive(Debug, Default)]
pub(super) struct Registry {
    groups: HashMap<u64, Group>,
    /// Connections that hold jobs of a user.
    by_user: HashMap<UserTag, BTreeSet<u64>>,
    /// Jobs by number, for whoever comes with a solution and without a name.
    by_work: HashMap<Work, BTreeMap<u64, Weak<Job>>>,
    count: usize,
}

/// What a bound counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weigh {
    Bytes,
    Count,
}

impl Registry {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds a job, and takes out what its connection holds too much of.
    pub(super) fn insert(&mut self, job: Arc<Job>) -> Vec<Arc<Job>> {
        let connection = job.connection;
        self.by_user.entry(job.user.tag).or_default().insert(connection);
        self.by_work.entry(work_of(&job)).or_default().insert(job.number, Arc::downgrade(&job));
        let group = self.groups.entry(connection).or_insert_with(|| Group {
            declarer: Weak::clone(&job.declarer),
            jobs: VecDeque::new(),
            own_bytes: 0,
        });
        group.own_bytes += job.own_bytes;
        group.jobs.push_front(job);
        self.count += 1;
        // A check may be faster than we are here.
        let mut dropped = self.forget_withdrawn(connection);
        while let Some(group) = self.groups.get(&connection)
            && group.holds_too_much()
        {
            dropped.extend(self.pop_oldest(connection));
        }
        dropped
    }

    /// Takes out all withdrawn jobs of a connection but the newest one.
    pub(super) fn forget_withdrawn(&mut self, connection: u64) -> Vec<Arc<Job>> {
        let mut seen = false;
        self.take_out(connection, |job| {
            let withdrawn = job.withdrawn().is_some();
            let older = seen && withdrawn;
            seen |= withdrawn;
            older
        })
    }

    /// Takes out jobs for heights below this one.
    pub(super) fn prune(&mut self, keep_from_height: u32) -> Vec<Arc<Job>> {
        let connections: Vec<u64> = self.groups.keys().copied().collect();
        let old = |job: &Job| job.accepted.height() < keep_from_height;
        connections.into_iter().flat_map(|number| self.take_out(number, old)).collect()
    }

    /// Takes the oldest job of the connection that holds most. Connections that are gone come
    /// first while they hold more than half of the bound: who connects again and again can not
    /// fill it up with jobs that are nobody's to lose, and who lost a connection finds their jobs.
    pub(super) fn evict(&mut self, weigh: Weigh) -> Option<Arc<Job>> {
        let of_the_gone: usize =
            self.groups.values().filter(|group| !group.is_alive()).map(|g| g.weight(weigh)).sum();
        let gone_first = of_the_gone > weigh.total_max() / 2;
        let heaviest = |(number, group): (&u64, &Group)| {
            let newest = group.jobs.front().map(|job| job.number);
            let due = group.is_alive() != gone_first;
            ((due, group.weight(weigh), Reverse(newest)), *number)
        };
        let (_, connection) = self.groups.iter().map(heaviest).max()?;
        self.pop_oldest(connection)
    }

    pub(super) fn is_newest(&self, job: &Job) -> bool {
        let newest = self.groups.get(&job.connection).and_then(|group| group.jobs.front());
        newest.is_some_and(|newest| newest.number == job.number)
    }

    /// Jobs of a connection, newest first.
    pub(super) fn of_connection(&self, connection: u64) -> Vec<Arc<Job>> {
        let group = self.groups.get(&connection);
        group.map(|group| group.jobs.iter().cloned().collect()).unwrap_or_default()
    }

    /// Jobs of a user on all connections but one: the newest of each, then the second of each, and
    /// so on, at most `max` in all.
    pub(super) fn of_user(&self, tag: &UserTag, but: Option<u64>, max: usize) -> Vec<Arc<Job>> {
        let connections = self.by_user.get(tag).into_iter().flatten().rev();
        let groups = connections
            .filter(|number| Some(**number) != but)
            .filter_map(|number| self.groups.get(number))
            .take(SOLUTION_JOBS_MAX);
        let mut jobs: Vec<(usize, &Arc<Job>)> = groups
            .flat_map(|group| group.jobs.iter().filter(|job| job.user.tag == *tag).enumerate())
            .collect();
        jobs.sort_unstable_by_key(|(depth, job)| (*depth, Reverse(job.number)));
        jobs.into_iter().take(max).map(|(_, job)| Arc::clone(job)).collect()
    }

    /// The newest job of a user with this template.
    pub(super) fn of_template(&self, tag: &UserTag, template: &TemplateHash) -> Option<Arc<Job>> {
        let groups = self.by_user.get(tag)?.iter().filter_map(|number| self.groups.get(number));
        let jobs = groups.flat_map(|group| &group.jobs);
        let named =
            |job: &&Arc<Job>| job.user.tag == *tag && job.accepted.template_hash() == *template;
        jobs.filter(named).max_by_key(|job| job.number).cloned()
    }

    /// Jobs of whomever, newest first, but for those with these numbers; at most `max`.
    fn of_work(&self, work: &Work, but: &[u64], max: usize) -> Vec<Arc<Job>> {
        let jobs = self.by_work.get(work).into_iter().flat_map(|jobs| jobs.iter().rev());
        let others = jobs.filter(|(number, _)| !but.contains(number));
        others.filter_map(|(_, job)| job.upgrade()).take(max).collect()
    }

    fn pop_oldest(&mut self, connection: u64) -> Option<Arc<Job>> {
        let oldest = self.groups.get(&connection)?.jobs.back()?.number;
        self.take_out(connection, |job| job.number == oldest).pop()
    }

    /// Takes those jobs of a connection out, looked at newest first.
    fn take_out(
        &mut self,
        connection: u64,
        mut unwanted: impl FnMut(&Job) -> bool,
    ) -> Vec<Arc<Job>> {
        let mut taken = Vec::new();
        let Some(group) = self.groups.get_mut(&connection) else { return taken };
        group.jobs.retain(|job| {
            let keep = !unwanted(job);
            if !keep {
                taken.push(Arc::clone(job));
            }
            keep
        });
        self.count -= taken.len();
        group.own_bytes -= taken.iter().map(|job| job.own_bytes).sum::<usize>();
        for job in &taken {
            let work = work_of(job);
            if let Some(jobs) = self.by_work.get_mut(&work) {
                jobs.remove(&job.number);
                if jobs.is_empty() {
                    self.by_work.remove(&work);
                }
            }
            let tag = job.user.tag;
            if group.jobs.iter().any(|other| other.user.tag == tag) {
                continue;
            }
            if let Some(connections) = self.by_user.get_mut(&tag) {
                connections.remove(&connection);
                if connections.is_empty() {
                    self.by_user.remove(&tag);
                }
            }
        }
        if group.jobs.is_empty() {
            self.groups.remove(&connection);
        }
        taken
    }
}

impl Jobs {
    /// Jobs of whomever that build on this block and leave room for so many bytes of extranonce:
    /// the newest but for those with these numbers, at most `max`.
    pub(crate) fn on_parent(
        &self,
        prev_hash: &BlockHash,
        extranonce_bytes: usize,
        but: &[u64],
        max: usize,
    ) -> Vec<Arc<Job>> {
        lock(&self.kept.registry).of_work(&(*prev_hash, extranonce_bytes), but, max)
    }
}

impl Group {
    fn is_alive(&self) -> bool {
        self.declarer.strong_count() > 0
    }

    fn holds_too_much(&self) -> bool {
        self.jobs.len() > JOBS_PER_CONNECTION_MAX
            || (self.own_bytes > JOB_BYTES_PER_CONNECTION_MAX && self.jobs.len() > 1)
    }

    fn weight(&self, weigh: Weigh) -> usize {
        match weigh {
            Weigh::Bytes => self.own_bytes,
            Weigh::Count => self.jobs.len(),
        }
    }
}

impl Weigh {
    fn total_max(self) -> usize {
        match self {
            Self::Bytes => JOB_BYTES_TOTAL_MAX,
            Self::Count => JOBS_TOTAL_MAX,
        }
    }
}
