//! The client's side of template distribution (SV2 7) as a state machine: messages of a provider
//! in, what follows from them out. It has no socket, clock or thread.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::{BlockHash, Network, Wtxid};
use jds_wire::message::template::{
    NewTemplate, RequestTransactionDataError, RequestTransactionDataSuccess, SetNewPrevHash,
    TemplateServerMessage,
};
use validation::tip::ChainTip;
use validation::tx::Tx;

use super::offer::{Nonsense, Offer, Parent};
use crate::limits::PROVIDER_FUTURES_MAX;
use crate::node::TxLookup;
use crate::source::Template;

/// The id that no template has: asked for its transactions, a provider that lives says that there
/// is no such template. The protocol has no other sign of life.
pub(super) const NO_TEMPLATE_ID: u64 = u64::MAX;

/// What follows from a message.
#[derive(Debug)]
pub(super) enum Effect {
    /// This is the block to build on.
    Tip(ChainTip),
    /// Ask for the transactions of this template.
    Ask(u64),
    /// This is what the provider would mine.
    Template(Box<Template>),
    /// The provider lives.
    Sign,
}

/// An offer, and the block that it builds on.
struct Wanted {
    offer: Offer,
    on: BlockHash,
}

/// One connection, from CoinbaseOutputConstraints on.
pub(super) struct Session {
    network: Network,
    /// Asked for in the constraints.
    sigops_left: u16,
    futures: VecDeque<Offer>,
    parent: Option<Parent>,
    /// Its transactions are on their way.
    asked: Option<Wanted>,
    /// Requests for transactions so far.
    requests: u64,
    /// To be asked for next; the newest only.
    next: Option<Wanted>,
    /// Transactions of the last template, so that those which stay are not parsed again.
    held: HashMap<Wtxid, Arc<Tx>>,
}

impl Session {
    pub(super) fn new(network: Network, sigops_left: u16) -> Self {
        Self {
            network,
            sigops_left,
            futures: VecDeque::new(),
            parent: None,
            asked: None,
            requests: 0,
            next: None,
            held: HashMap::new(),
        }
    }

    /// Transactions are on their way.
    pub(super) fn awaits_data(&self) -> bool {
        self.asked.is_some()
    }

    /// The number of the request that is open.
    pub(super) fn request(&self) -> Option<u64> {
        self.asked.as_ref().map(|_| self.requests)
    }

    /// True once there is a block to build on.
    pub(super) fn has_tip(&self) -> bool {
        self.parent.is_some()
    }

    /// Takes a message in.
    ///
    /// # Errors
    /// [`Nonsense`]: the connection is of no use any more.
    pub(super) fn on_message(
        &mut self,
        message: &TemplateServerMessage<'_>,
        lookup: &TxLookup,
        now_unix_s: u32,
    ) -> Result<Vec<Effect>, Nonsense> {
        match message {
            TemplateServerMessage::NewTemplate(template) => self.on_template(template, lookup),
            TemplateServerMessage::SetNewPrevHash(prev_hash) => {
                self.on_prev_hash(prev_hash, lookup, now_unix_s)
            }
            TemplateServerMessage::RequestTransactionDataSuccess(data) => {
                self.on_data(data, lookup)
            }
            TemplateServerMessage::RequestTransactionDataError(error) => Ok(self.on_no_data(error)),
            // Answers to what we never asked.
            TemplateServerMessage::SetupConnectionSuccess(_)
            | TemplateServerMessage::SetupConnectionError(_)
            | TemplateServerMessage::RequestExtensionsError(_) => Ok(Vec::new()),
        }
    }

    fn on_template(
        &mut self,
        message: &NewTemplate<'_>,
        lookup: &TxLookup,
    ) -> Result<Vec<Effect>, Nonsense> {
        let offer = Offer::parse(message, self.sigops_left)?;
        if message.future_template {
            self.futures.retain(|other| other.id != offer.id);
            if self.futures.len() == PROVIDER_FUTURES_MAX {
                self.futures.pop_front();
            }
            self.futures.push_back(offer);
            return Ok(Vec::new());
        }
        // What is for now before anything is: nobody can tell on which block.
        let Some(parent) = self.parent else { return Ok(Vec::new()) };
        let (expected, actual) = (parent.tip.next_height(), offer.height);
        if expected != actual {
            return Err(Nonsense::OtherHeight { id: offer.id, expected, actual });
        }
        self.work_on(offer, parent.tip.hash, lookup)
    }

    fn on_prev_hash(
        &mut self,
        message: &SetNewPrevHash,
        lookup: &TxLookup,
        now_unix_s: u32,
    ) -> Result<Vec<Effect>, Nonsense> {
        let id = message.template_id;
        let offer = self.futures.iter().find(|offer| offer.id == id).cloned();
        let offer = offer.ok_or(Nonsense::NoSuchFuture { id })?;
        let parent = Parent::of(message, offer.height, self.network, now_unix_s)?;
        self.futures.clear();
        self.parent = Some(parent);
        // What is still to be asked for is of the block before.
        self.next = None;
        let mut effects = vec![Effect::Tip(parent.tip)];
        effects.extend(self.work_on(offer, parent.tip.hash, lookup)?);
        Ok(effects)
    }

    /// One request at a time; of what comes meanwhile the newest counts.
    fn work_on(
        &mut self,
        offer: Offer,
        on: BlockHash,
        lookup: &TxLookup,
    ) -> Result<Vec<Effect>, Nonsense> {
        let wanted = Wanted { offer, on };
        if wanted.offer.is_empty() {
            return Ok(self.complete(&wanted, &[], lookup)?.into_iter().collect());
        }
        self.next = Some(wanted);
        Ok(if self.asked.is_none() { self.ask_next() } else { Vec::new() })
    }

    fn on_data(
        &mut self,
        message: &RequestTransactionDataSuccess<'_>,
        lookup: &TxLookup,
    ) -> Result<Vec<Effect>, Nonsense> {
        let id = message.template_id;
        let asked = self.asked.take_if(|wanted| wanted.offer.id == id);
        let wanted = asked.ok_or(Nonsense::Unasked { id })?;
        let mut effects = self.ask_next();
        effects.extend(self.complete(&wanted, &message.transactions, lookup)?);
        Ok(effects)
    }

    /// A template that is gone: a newer one is here or on its way.
    fn on_no_data(&mut self, message: &RequestTransactionDataError) -> Vec<Effect> {
        let id = message.template_id;
        if self.asked.take_if(|wanted| wanted.offer.id == id).is_some() {
            return self.ask_next();
        }
        if id == NO_TEMPLATE_ID { vec![Effect::Sign] } else { Vec::new() }
    }

    fn ask_next(&mut self) -> Vec<Effect> {
        self.asked = self.next.take();
        self.requests += u64::from(self.asked.is_some());
        self.asked.iter().map(|wanted| Effect::Ask(wanted.offer.id)).collect()
    }

    /// The template, unless it is for another block by now.
    fn complete(
        &mut self,
        wanted: &Wanted,
        transactions: &[&[u8]],
        lookup: &TxLookup,
    ) -> Result<Option<Effect>, Nonsense> {
        let Some(parent) = self.parent.filter(|parent| parent.tip.hash == wanted.on) else {
            return Ok(None);
        };
        let template = wanted.offer.with(transactions, &parent, lookup, &self.held)?;
        self.held = template.txs.iter().map(|tx| (tx.wtxid(), Arc::clone(tx))).collect();
        Ok(Some(Effect::Template(Box::new(template))))
    }
}
