//! Which jobs the miner gets, and at which difficulty.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use serde_json::json;

use super::{Given, Session};
use crate::job::Job;
use crate::limits::SV1_EXTRANONCE2_BYTES;
use crate::sv1::difficulty::{to_json, told};
use crate::sv1::notify;
use crate::sv1::rpc::notification;
use crate::{Action, ChannelTarget, Now};

impl Session {
    pub(super) fn on_tip(&mut self, tip: BlockHash, now: Now) {
        if self.tip.replace(tip) == Some(tip) {
            return;
        }
        if let Some(channel) = &mut self.channel {
            channel.on_tip(tip, now);
        }
        if let Some(given) = &mut self.given {
            given.stale = true;
        }
        // The chain may have come back to the tip of the work that we have.
        self.give_job(now);
    }

    /// Gives the newest work, with the difficulty that it is for before it.
    pub(super) fn give_job(&mut self, now: Now) {
        let (Some(channel), Some(work), Some((_, rules))) =
            (&mut self.channel, &self.work, self.workers.first())
        else {
            return;
        };
        if self.tip != Some(work.tip.hash) {
            return;
        }
        // The miner counts its extranonce from 0 again: with the same nTime as before it would do
        // the same work again.
        let again = self.given.as_ref().filter(|given| given.work == work.number);
        let ntime = now
            .unix_s
            .max(work.min_ntime)
            .max(again.map_or(0, |given| given.ntime.saturating_add(1)));
        let valid = |given: &Given| !given.stale && given.tip == work.tip.hash;
        let clean = !self.given.as_ref().is_some_and(valid);
        let id = self.last_job_id.wrapping_add(1);
        let settings = &self.deps.settings;
        let length = channel.extranonce_len();
        let job = match Job::for_user(id, Arc::clone(work), rules, settings, length, ntime) {
            Ok(job) => Arc::new(job.with_version_mask(self.version_mask)),
            Err(problem) => return self.close(&format!("no job: {problem}")),
        };
        let params = notify::params(&job, clean);
        if let Err(problem) = channel.set_job(job, now) {
            return self.close(&format!("no job: {problem}"));
        }
        self.last_job_id = id;
        self.given = Some(Given {
            tip: work.tip.hash,
            stale: false,
            work: work.number,
            ntime,
            since: now.instant,
        });
        let target = channel.target();
        let difficulty = told(target);
        if self.told_difficulty != Some(difficulty) {
            self.told_difficulty = Some(difficulty);
            self.actions.push_back(Action::Target(ChannelTarget { channel_id: None, target }));
            self.send(notification("mining.set_difficulty", &json!([to_json(difficulty)])));
        }
        self.send(notification("mining.notify", &params));
    }

    pub(super) fn update_rate(&mut self, now: Now) {
        if let Some(channel) = &mut self.channel {
            // Rate and target were made by us: they are no reason for a refusal.
            let changed = channel.update(self.nominal_hashrate, self.max_target, now);
            self.job_due |= changed.is_ok_and(|target| target.is_some());
        }
    }

    pub(super) fn look_at_rate(&mut self, now: Now) {
        let Some(channel) = &mut self.channel else {
            return;
        };
        // Each share has its own answer.
        let _ = channel.acknowledge(true, now);
        if channel.look(now).is_some() {
            self.give_job(now);
        }
    }

    /// Another part of the search space, or the end for a miner that can not be told of it.
    pub(super) fn renew_extranonce(&mut self, now: Now) {
        if !self.takes_extranonce {
            return self.close("no room for more shares on this extranonce");
        }
        self.extranonce1 = self.deps.extranonces.next();
        if let Some(channel) = &mut self.channel {
            channel.set_extranonce_prefix(self.extranonce1, now);
        }
        if let Some(given) = &mut self.given {
            given.stale = true;
        }
        let extranonce1 = self.extranonce1.to_lower_hex_string();
        self.send(notification(
            "mining.set_extranonce",
            &json!([extranonce1, SV1_EXTRANONCE2_BYTES]),
        ));
        self.give_job(now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bitcoin::Network;

    use super::*;
    use crate::{Deps, Extranonces, JobBytes, Settings};

    /// A miner that can not be told of another extranonce has to connect again.
    #[test]
    fn an_extranonce_that_is_used_up_is_replaced_or_the_end() {
        for takes in [true, false] {
            let deps = Deps {
                network: Network::Regtest,
                settings: Settings::default(),
                extranonces: Extranonces::new([0; 4]),
                custom_job_bytes: JobBytes::default(),
                terms: Box::new(|_| Err(String::new())),
            };
            let now = Now { instant: Instant::now(), unix_s: 0 };
            let mut session = Session::new(Arc::new(deps), now);
            session.takes_extranonce = takes;
            let before = session.extranonce1;
            session.renew_extranonce(now);
            match session.poll_action() {
                Some(Action::Line(line)) if takes => {
                    let extranonce1 = session.extranonce1.to_lower_hex_string();
                    assert!(line.contains(&format!("[\"{extranonce1}\",8]")), "{line}");
                    assert_ne!(session.extranonce1, before);
                }
                Some(Action::Close(reason)) if !takes => assert!(reason.contains("no room")),
                other => panic!("{takes}: {other:?}"),
            }
        }
    }
}
