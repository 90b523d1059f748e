//! Asks a provider once, for somebody who wants to know whether it would do.

use std::sync::Arc;
use std::time::Duration;

use jds_wire::message::MessageError;
use jds_wire::message::template::{
    RequestTransactionData, TemplateClientMessage, TemplateServerMessage,
};
use tokio::runtime::Builder;
use tokio::time::timeout;
use validation::tip::ChainTip;

use super::run::{connect, constrain, fault, now_unix_s};
use super::session::{Effect, Session};
use super::{Constraints, ProviderSettings};
use crate::error::{Fault, NodeError};
use crate::source::Template;

/// What a provider told.
#[derive(Debug, Clone)]
pub struct ProviderFacts {
    /// The block that its template builds on.
    pub tip: ChainTip,
    /// Its template.
    pub template: Arc<Template>,
}

/// Connects to the provider and waits for its first template, `limit` in all. Blocks its thread.
///
/// # Errors
/// [`NodeError`] says how far it came.
pub fn probe_provider(
    settings: &ProviderSettings,
    limit: Duration,
) -> Result<ProviderFacts, NodeError> {
    let name = settings.name.as_str().into();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| NodeError::new(&name, Fault::Worker { reason: error.to_string() }))?;
    let asked = runtime.block_on(async { timeout(limit, ask(settings)).await });
    // Connecting and set-up have bounds of their own: only templates can be late.
    let facts = asked.unwrap_or(Err(Fault::ProviderWithoutTemplate));
    facts.map_err(|fault| NodeError::new(&name, fault))
}

async fn ask(settings: &ProviderSettings) -> Result<ProviderFacts, Fault> {
    let broken = |reason: String| Fault::ProviderProtocol { reason };
    let mut link = connect(settings).await?;
    let constraints = Constraints::default();
    constrain(&mut link, constraints).await.map_err(fault)?;
    let mut session = Session::new(settings.network, constraints.sigops);
    let mut tip = None;
    loop {
        let frame = link.next(session.awaits_data()).await.map_err(|error| fault(error.into()))?;
        let message = match TemplateServerMessage::from_frame(&frame) {
            Ok(message) => message,
            Err(MessageError::UnknownExtension { .. }) => continue,
            Err(error) => return Err(broken(error.to_string())),
        };
        let unknown: crate::TxLookup = Arc::new(|_| None);
        let effects = session.on_message(&message, &unknown, now_unix_s());
        for effect in effects.map_err(|error| broken(error.to_string()))? {
            match effect {
                Effect::Tip(told) => tip = Some(told),
                Effect::Ask(template_id) => {
                    let request = RequestTransactionData { template_id };
                    let request = TemplateClientMessage::RequestTransactionData(request);
                    link.send(&request).await.map_err(fault)?;
                }
                Effect::Template(template) => {
                    if let Some(tip) = tip {
                        return Ok(ProviderFacts { tip, template: Arc::new(*template) });
                    }
                }
                Effect::Sign => {}
            }
        }
    }
}
