//! The HTTP API: events, what the store holds, webhooks, metrics, health.
//!
//! [`serve`] runs it on a listener. It reads from the [`store::Store`]; what is not there it asks
//! of the [`Backend`]. A slow reader costs nothing but its connection: events are paged from the
//! log, and nothing is kept for it in memory.

mod app;
mod backend;
mod extract;
mod guard;
mod io;
pub mod limits;
mod live;
mod metrics;
mod net;
mod places;
pub mod pool;
mod problem;
mod refusal;
mod router;
mod routes;
mod serve;
mod settings;
mod views;
mod webhook;

pub use backend::{
    Backend, ChannelInfo, ChannelKind, Download, Live, NodeView, OwnTemplate, OwnTx, Part, Queue,
    ReceiptKeys,
};
pub use metrics::{Declaration, Metrics, Traffic};
pub use net::{DenyList, IpRange, IpRangeError};
pub use places::{Full, PeerKey, Place, Places, peer_key};
pub use serve::{bind, serve};
pub use settings::{Settings, StartError, Token, TokenError};
