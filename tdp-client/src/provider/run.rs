//! The task that keeps in touch with a provider, on a thread of its own: connects, feeds the
//! session, publishes what it tells, and starts anew after every failure.
#![deny(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use jds_wire::Frame;
use jds_wire::message::template::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution, TemplateClientMessage,
    TemplateServerMessage,
};
use jds_wire::message::{MessageError, PROTOCOL_VERSION, SetupConnection, constants as c};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::bounds::{Late, Pauses, Recent, TipRate, Waits};
use super::link::{Link, LinkError, unix_s};
use super::session::{Effect, NO_TEMPLATE_ID, Session};
use super::{Constraints, ProviderSettings, ProviderSolution};
use crate::error::{Fault, NodeError};
use crate::limits::{PROVIDER_ANSWER_TIMEOUT_MS, PROVIDER_FIRST_TEMPLATE_MS};
use crate::node::{Shared, TxLookup};
use crate::noise_io::IoError;
use crate::source::NodeState;

const FIRST_TEMPLATE: Duration = Duration::from_millis(PROVIDER_FIRST_TEMPLATE_MS);

/// What follows one provider.
pub(super) struct Follower {
    shared: Arc<Shared>,
    settings: ProviderSettings,
    lookup: TxLookup,
    solutions: mpsc::Receiver<ProviderSolution>,
    constraints: watch::Receiver<Constraints>,
    recent: Recent,
    generation: u64,
}

/// Why a connection ended without a fault.
enum End {
    /// Nobody follows any more.
    Stop,
    /// More has to be left free in the coinbase.
    OtherConstraints,
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: ProviderSettings,
        lookup: TxLookup,
        solutions: mpsc::Receiver<ProviderSolution>,
        constraints: watch::Receiver<Constraints>,
    ) -> Self {
        let recent = Recent::default();
        Self { shared, settings, lookup, solutions, constraints, recent, generation: 0 }
    }

    /// Runs until nobody follows any more.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new();
        loop {
            let start = Instant::now();
            match self.connection().await {
                Ok(End::Stop) => return,
                Ok(End::OtherConstraints) => continue,
                Err(fault) => {
                    let error = NodeError::new(&self.shared.node, fault).to_string();
                    self.shared.set_state(NodeState::Connecting { error: Some(error) });
                }
            }
            if self.pause(pauses.after(start.elapsed())).await.is_err() {
                return;
            }
        }
    }

    /// Waits; an error means that nobody follows any more.
    async fn pause(&mut self, pause: Duration) -> Result<(), ()> {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                solution = self.solutions.recv() => {
                    self.recent.keep(solution.ok_or(())?, Instant::now());
                }
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    /// From connecting to the first failure.
    async fn connection(&mut self) -> Result<End, Fault> {
        let constraints = *self.constraints.borrow_and_update();
        let mut link = connect(&self.settings).await?;
        constrain(&mut link, constraints).await.map_err(fault)?;
        for solution in self.recent.live(Instant::now()) {
            hand_in(&mut link, solution).await.map_err(fault)?;
        }
        let mut session = Session::new(self.shared.network, constraints.sigops);
        let first = sleep(FIRST_TEMPLATE);
        tokio::pin!(first);
        let (mut waits, mut tips) = (Waits::silence(Instant::now()), TipRate::default());
        loop {
            let awaits_data = session.awaits_data();
            tokio::select! {
                biased;
                solution = self.solutions.recv() => {
                    let Some(solution) = solution else { return Ok(End::Stop) };
                    // Whatever becomes of this connection, the next one is given it again.
                    self.recent.keep(solution.clone(), Instant::now());
                    hand_in(&mut link, &solution).await.map_err(fault)?;
                    tracing::info!(node = &*self.shared.node, template = solution.template_id,
                        "solution handed in at the template provider");
                }
                changed = self.constraints.changed() => match changed {
                    Ok(()) => return Ok(End::OtherConstraints),
                    Err(_) => return Ok(End::Stop),
                },
                frame = link.next(awaits_data) => {
                    let frame = frame.map_err(|error| fault(error.into()))?;
                    let effects = self.on_frame(&mut session, &frame)?;
                    for effect in effects {
                        self.carry_out(effect, &mut link, &mut tips).await?;
                    }
                    waits.on_frame(session.request(), Instant::now())?;
                }
                () = sleep_until(waits.due) => {
                    match waits.on_due(link.held_bytes(), Instant::now())? {
                        Late::Wait => {}
                        Late::Ask => ask_for(NO_TEMPLATE_ID, &mut link).await?,
                    }
                }
                () = &mut first, if !first.is_elapsed() => if !session.has_tip() {
                    let error = NodeError::new(&self.shared.node, Fault::ProviderWithoutTemplate);
                    let error = Some(error.to_string());
                    self.shared.set_state(NodeState::Connecting { error });
                },
            }
        }
    }

    fn on_frame(&mut self, session: &mut Session, frame: &Frame) -> Result<Vec<Effect>, Fault> {
        let message = match TemplateServerMessage::from_frame(frame) {
            Ok(message) => message,
            // An extension that nobody negotiated is not for us (SV2 3.4).
            Err(MessageError::UnknownExtension { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(Fault::ProviderProtocol { reason: error.to_string() }),
        };
        let effects = session.on_message(&message, &self.lookup, now_unix_s());
        effects.map_err(|error| Fault::ProviderProtocol { reason: error.to_string() })
    }

    async fn carry_out(
        &mut self,
        effect: Effect,
        link: &mut Link,
        tips: &mut TipRate,
    ) -> Result<(), Fault> {
        match effect {
            Effect::Tip(tip) => {
                let known = self.shared.tip.borrow().as_deref().map(|state| state.tip);
                let same = known.is_some_and(|known| {
                    (known.hash, known.next_bits) == (tip.hash, tip.next_bits)
                });
                if !same {
                    tips.count(Instant::now())?;
                    // The work of its chain it does not tell.
                    self.shared.set_tip(tip, None);
                }
                self.shared.begin_session();
            }
            Effect::Ask(template_id) => ask_for(template_id, link).await?,
            Effect::Template(mut template) => {
                self.generation += 1;
                template.generation = self.generation;
                tracing::debug!(
                    node = &*self.shared.node,
                    height = template.height,
                    txs = template.txs.len(),
                    value_sat = template.coinbase_value_sat,
                    "new template"
                );
                self.shared.template.send_replace(Some(Arc::new(*template)));
            }
            Effect::Sign => {}
        }
        Ok(())
    }
}

/// A connection that is set up.
pub(super) async fn connect(settings: &ProviderSettings) -> Result<Link, Fault> {
    let limit = Duration::from_millis(PROVIDER_ANSWER_TIMEOUT_MS);
    let unreachable = |reason: String| Fault::ProviderUnreachable {
        address: settings.address.as_str().into(),
        reason,
    };
    let link = Link::connect(settings.address.as_str(), settings.public_key, limit).await;
    let mut link = link.map_err(|error| match error {
        LinkError::Connect { source, .. } => unreachable(source.to_string()),
        LinkError::Timeout { waiting_for: "connection", after } => {
            unreachable(format!("no answer within {} ms", after.as_millis()))
        }
        other => fault(other),
    })?;
    let setup = SetupConnection {
        protocol: c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        flags: 0,
        endpoint_host: b"",
        endpoint_port: 0,
        vendor: b"jds",
        hardware_version: b"",
        firmware: env!("CARGO_PKG_VERSION").as_bytes(),
        device_id: b"",
    };
    link.set_up(setup).await.map_err(fault)?;
    Ok(link)
}

/// Says what has to be left free (SV2 7.1).
pub(super) async fn constrain(link: &mut Link, wanted: Constraints) -> Result<(), LinkError> {
    let constraints = CoinbaseOutputConstraints {
        max_additional_size: wanted.size,
        max_additional_sigops: wanted.sigops,
    };
    link.send(&TemplateClientMessage::CoinbaseOutputConstraints(constraints)).await
}

/// Asks for the transactions of a template.
async fn ask_for(template_id: u64, link: &mut Link) -> Result<(), Fault> {
    let request = RequestTransactionData { template_id };
    let request = TemplateClientMessage::RequestTransactionData(request);
    link.send(&request).await.map_err(fault)
}

async fn hand_in(link: &mut Link, solution: &ProviderSolution) -> Result<(), LinkError> {
    link.send(&TemplateClientMessage::SubmitSolution(SubmitSolution {
        template_id: solution.template_id,
        version: solution.version,
        header_timestamp: solution.ntime,
        header_nonce: solution.nonce,
        coinbase_tx: &solution.coinbase,
    }))
    .await
}

/// What went wrong, for an operator.
pub(super) fn fault(error: LinkError) -> Fault {
    match error {
        LinkError::SetupRefused { error_code, .. } => Fault::ProviderRefused { code: error_code },
        LinkError::Timeout { waiting_for, .. } => Fault::TimedOut { method: waiting_for },
        LinkError::Io(IoError::Handshake(error @ jds_wire::HandshakeError::Certificate { .. })) => {
            Fault::ProviderUntrusted { reason: error.to_string() }
        }
        LinkError::Connect { .. }
        | LinkError::Io(
            IoError::Closed | IoError::ClosedEarly | IoError::Read(_) | IoError::Write(_),
        ) => Fault::ConnectionLost { method: "template distribution", reason: error.to_string() },
        LinkError::Unexpected { .. }
        | LinkError::Message(_)
        | LinkError::Encode(_)
        | LinkError::Io(IoError::Handshake(_) | IoError::Frame(_) | IoError::Encode(_)) => {
            Fault::ProviderProtocol { reason: error.to_string() }
        }
    }
}

/// Our clock, Unix seconds.
pub(super) fn now_unix_s() -> u32 {
    u32::try_from(unix_s()).unwrap_or(u32::MAX)
}
