//! One batch into the open transaction.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::sizes::Table;
use super::state::State;
use super::tally::{Count, Tally, touch_user, users_full};
use super::{read_chain, write_block, write_template};
use crate::batch::{Batch, Change, NewEvent, Webhook};
use crate::chain::StoredEvent;
use crate::commit::Committed;
use crate::event::{EventData, Protocol, SCHEMA_VERSION, ShareSubmitted};
use crate::limits::WEBHOOKS_MAX;
use crate::query::TEMPLATE_CRAFTER_TEMPLATES;
use crate::types::TemplateSource;

/// What is going on while a batch is applied.
pub(super) struct Apply<'a> {
    pub(super) connection: &'a Connection,
    pub(super) state: &'a mut State,
    pub(super) tally: Tally,
    at_ms: u64,
    volatile: bool,
    /// Totals that the accepted templates of this batch brought, for their events.
    accepted_totals: VecDeque<(String, u64)>,
    /// First accepted shares in this batch whose event has not come yet.
    first_shares: Vec<ShareSubmitted>,
    /// Hashes of blocks in this batch that were found before: they have their event.
    known_blocks: Vec<String>,
}

/// Applies changes, then writes events. Returns the counts to be merged.
pub(super) fn apply(
    connection: &Connection,
    state: &mut State,
    batch: &Batch,
    volatile: bool,
) -> Result<(Committed, Tally), Fault> {
    let first_event_id = state.next_event_id;
    let mut apply = Apply {
        connection,
        state,
        tally: Tally::default(),
        at_ms: batch.at_ms,
        volatile,
        accepted_totals: VecDeque::new(),
        first_shares: Vec::new(),
        known_blocks: Vec::new(),
    };
    for change in &batch.changes {
        apply.change(change)?;
    }
    for event in &batch.events {
        apply.event(event)?;
    }
    // A first share without an event would be a badge that nobody hears of.
    for share in std::mem::take(&mut apply.first_shares) {
        let data = ShareSubmitted { first_for_user: Some(true), ..share };
        apply.write_event(Protocol::StratumV2, &data.into())?;
    }
    let tally = apply.tally;
    let events = (state.next_event_id - first_event_id) as u32;
    let first_event_id = (events > 0).then_some(first_event_id);
    Ok((Committed { first_event_id, events, volatile }, tally))
}

impl Apply<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Fault> {
        let at_ms = self.at_ms;
        match change {
            Change::SpendToken { sequence, expires_at_ms, user } => {
                let new = self
                    .connection
                    .prepare_cached(
                        "INSERT INTO tokens (sequence, user_id, spent_at, expires_at)
                         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (sequence) DO NOTHING",
                    )?
                    .execute(params![sequence, &**user, at_ms, expires_at_ms])?;
                if new == 0 {
                    return Err(Fault::token_spent(*sequence));
                }
                self.state.sizes.added(Table::Tokens, 0);
            }
            Change::AcceptTemplate(template) => {
                let (connection, volatile) = (self.connection, self.volatile);
                write_template::accept(connection, self.state, template, at_ms, volatile)?;
                let total = self.raise_accepted_total(&template.user)?;
                self.accepted_totals.push_back((template.user.to_string(), total));
                let count = Count { templates_accepted: 1, ..Count::default() };
                self.tally.add(&template.user, TemplateSource::Miner, at_ms, count);
            }
            Change::RejectTemplate(template) => {
                write_template::reject(self.connection, self.state, template, at_ms)?;
                let count = Count { templates_rejected: 1, ..Count::default() };
                self.tally.add(&template.user, TemplateSource::Miner, at_ms, count);
            }
            Change::InvalidateTemplate { template_hash, reason } => {
                self.connection
                    .prepare_cached(
                        "UPDATE miner_templates SET validation_result = 'invalidated', reason = ?2
                         WHERE template_hash = ?1 AND validation_result = 'accepted'",
                    )?
                    .execute(params![template_hash.to_string(), reason])?;
            }
            Change::Share(share) => self.share(share)?,
            Change::FindBlock(block) => {
                let (connection, volatile) = (self.connection, self.volatile);
                if write_block::find(connection, self.state, block, at_ms, volatile)? {
                    let count = Count { blocks_found: 1, ..Count::default() };
                    self.tally.add(&block.user, block.template_source, at_ms, count);
                    self.tally.accounts.block(block, at_ms);
                } else {
                    self.known_blocks.push(block.block.hash.to_string());
                }
            }
            Change::Submission(step) => write_block::step(self.connection, step, at_ms)?,
            Change::BlockProgress { block_hash, state, confirmations } => {
                let hash = block_hash.to_string();
                write_block::progress(self.connection, self.state, &hash, *state, *confirmations)?;
            }
            Change::SignHead(head) => read_chain::put_head(self.connection, head)?,
            Change::PutWebhook(webhook) => self.put_webhook(webhook)?,
            Change::WebhookProgress { id, cursor, failures, last_error, delivered_at } => {
                self.connection
                    .prepare_cached(
                        "UPDATE webhooks SET cursor = ?2, failures = ?3, last_error = ?4,
                             delivered_at = coalesce(?5, delivered_at) WHERE id = ?1",
                    )?
                    .execute(params![id, cursor.to_string(), failures, last_error, delivered_at])?;
            }
            Change::DeleteWebhook { id } => {
                self.connection
                    .prepare_cached("DELETE FROM webhooks WHERE id = ?1")?
                    .execute([id])?;
            }
        }
        Ok(())
    }

    fn raise_accepted_total(&mut self, user: &str) -> Result<u64, Fault> {
        let full = users_full(self.state);
        touch_user(self.connection, self.state, user, self.at_ms)?;
        // Whoever declares does job negotiation; with a full table its connection had no row yet.
        let total = self
            .connection
            .prepare_cached(
                "UPDATE users SET templates_accepted_total = templates_accepted_total + 1,
                     node_runner_at = CASE WHEN ?4 THEN coalesce(node_runner_at, ?2)
                         ELSE node_runner_at END,
                     template_crafter_at = CASE WHEN templates_accepted_total + 1 >= ?3
                         THEN coalesce(template_crafter_at, ?2) ELSE template_crafter_at END
                 WHERE user_id = ?1 RETURNING templates_accepted_total",
            )?
            .query_row(params![user, self.at_ms, TEMPLATE_CRAFTER_TEMPLATES, full], |row| {
                row.get(0)
            })?;
        Ok(total)
    }

    fn share(&mut self, share: &ShareSubmitted) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT INTO shares (submitted_at, user_id, worker, channel_id, job_id, accepted,
                     error_code, difficulty, share_hash, template_source, miner_template_hash,
                     miner_tx_count, miner_template_fees_sat, pool_payout_sat, claimable_sat)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                self.at_ms,
                share.user,
                share.worker,
                share.channel_id,
                share.job_id,
                share.accepted,
                share.error_code,
                share.difficulty,
                share.share_hash,
                share.template_source.as_str(),
                share.miner_template_hash,
                share.miner_tx_count,
                share.miner_template_fees_sat,
                share.pool_payout_sat,
                share.claimable_sat,
            ])?;
        self.state.sizes.added(Table::Shares, 0);
        if share.accepted {
            self.tally.accounts.share(share, self.at_ms);
        }
        let count = if share.accepted {
            Count { shares_accepted: 1, difficulty: share.difficulty, ..Count::default() }
        } else {
            Count { shares_rejected: 1, ..Count::default() }
        };
        self.tally.add(&share.user, share.template_source, self.at_ms, count);
        if self.is_first(share)? {
            self.first_shares.push(share.clone());
        }
        Ok(())
    }

    /// True once for each user: on the first accepted share on a template of the miner.
    fn is_first(&mut self, share: &ShareSubmitted) -> Result<bool, Fault> {
        let counts = share.accepted && share.template_source == TemplateSource::Miner;
        if !counts || self.state.sovereign.contains(share.user.as_str()) {
            return Ok(false);
        }
        touch_user(self.connection, self.state, &share.user, self.at_ms)?;
        let first = self
            .connection
            .prepare_cached(
                "UPDATE users SET sovereign_miner_at = ?2
                 WHERE user_id = ?1 AND sovereign_miner_at IS NULL",
            )?
            .execute(params![share.user, self.at_ms])?;
        self.state.note_sovereign(&share.user);
        Ok(first > 0)
    }

    fn put_webhook(&mut self, webhook: &Webhook) -> Result<(), Fault> {
        self.connection
            .prepare_cached(
                "INSERT INTO webhooks (id, url, secret, types, cursor, paused, failures,
                     last_error, created_at, delivered_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET url = ?2, secret = ?3, types = ?4, cursor = ?5,
                     paused = ?6, failures = ?7, last_error = ?8, delivered_at = ?10",
            )?
            .execute(params![
                webhook.id,
                webhook.url,
                webhook.secret,
                webhook.types,
                webhook.cursor.to_string(),
                webhook.paused,
                webhook.failures,
                webhook.last_error,
                webhook.created_at,
                webhook.delivered_at,
            ])?;
        let count: usize = self
            .connection
            .prepare_cached("SELECT count(*) FROM webhooks")?
            .query_row([], |row| row.get(0))?;
        if count > WEBHOOKS_MAX {
            return Err(Fault::refused(format!("there are {WEBHOOKS_MAX} webhooks, the most")));
        }
        Ok(())
    }

    fn event(&mut self, event: &NewEvent) -> Result<(), Fault> {
        match &event.data {
            EventData::TemplateAccepted(accepted) => {
                let templates_accepted_total = self.accepted_total(&accepted.user)?;
                let mut accepted = accepted.clone();
                accepted.templates_accepted_total = templates_accepted_total;
                self.write_event(event.protocol, &accepted.into())
            }
            EventData::ShareSubmitted(share) => {
                let pending = self.first_shares.iter().position(|first| {
                    first.share_hash == share.share_hash && first.user == share.user
                });
                let first = match pending {
                    Some(place) => {
                        self.first_shares.remove(place);
                        true
                    }
                    None => self.is_first(share)?,
                };
                let mut share = share.clone();
                let miner = share.template_source == TemplateSource::Miner;
                share.first_for_user = miner.then_some(first);
                self.write_event(event.protocol, &share.into())
            }
            EventData::MinerConnected(connected) => {
                if let (Some(user), true) = (&connected.user, connected.job_negotiation) {
                    // A name alone takes no place from those who have done something.
                    if !users_full(self.state) {
                        touch_user(self.connection, self.state, user, self.at_ms)?;
                    }
                    self.connection
                        .prepare_cached(
                            "UPDATE users SET node_runner_at = coalesce(node_runner_at, ?2),
                                 last_seen = max(last_seen, ?2) WHERE user_id = ?1",
                        )?
                        .execute(params![user, self.at_ms])?;
                }
                self.write_event(event.protocol, &event.data)
            }
            EventData::BlockFound(found) if self.known_blocks.contains(&found.block_hash) => Ok(()),
            data => self.write_event(event.protocol, data),
        }
    }

    fn accepted_total(&mut self, user: &str) -> Result<u64, Fault> {
        let place = self.accepted_totals.iter().position(|(of, _)| of == user);
        if let Some((_, total)) = place.and_then(|place| self.accepted_totals.remove(place)) {
            return Ok(total);
        }
        let total = self
            .connection
            .prepare_cached("SELECT templates_accepted_total FROM users WHERE user_id = ?1")?
            .query_row([user], |row| row.get(0))
            .optional()?;
        Ok(total.unwrap_or_default())
    }

    fn write_event(&mut self, protocol: Protocol, data: &EventData) -> Result<(), Fault> {
        // As readers get it, to the byte: that is what the hash is over.
        let json = serde_json::to_value(data).map_err(|error| Fault::refused(error.to_string()))?;
        let json = json.to_string();
        let event = StoredEvent {
            id: self.state.next_event_id,
            timestamp: self.at_ms,
            schema: SCHEMA_VERSION,
            kind: data.kind().as_str(),
            source: &self.state.source,
            protocol: protocol.as_str(),
            data: &json,
        };
        let hash = event.hash(&self.state.last_hash);
        self.connection
            .prepare_cached(
                "INSERT INTO events (id, kind, timestamp, source, protocol, schema, data, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                event.id,
                event.kind,
                event.timestamp,
                event.source,
                event.protocol,
                event.schema,
                event.data,
                hash,
            ])?;
        self.state.sizes.added(Table::Events, json.len() as u64);
        self.state.next_event_id += 1;
        self.state.last_hash = hash;
        Ok(())
    }
}
