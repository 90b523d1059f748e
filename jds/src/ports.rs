//! Where the server listens: one port for each protocol that is configured.

use std::net::SocketAddr;
use std::sync::Arc;

use config::Checked;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::accept::{Endpoint, Listening};
use crate::server::{Shared, StartError};

/// Sockets that are bound and serve nobody yet.
#[derive(Debug)]
pub(crate) struct Ports {
    declaration: Listening,
    distribution: Option<Listening>,
    mining: Option<Listening>,
    mining_v1: Option<Listening>,
}

/// Where the server listens; a port is the one chosen by the system if 0 was configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// Job declaration.
    pub(crate) declaration: SocketAddr,
    /// Template distribution.
    pub(crate) distribution: Option<SocketAddr>,
    /// Stratum V2 miners.
    pub(crate) mining: Option<SocketAddr>,
    /// Stratum V1 miners.
    pub(crate) mining_v1: Option<SocketAddr>,
}

impl Addresses {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<SocketAddr> {
        let others = [self.distribution, self.mining, self.mining_v1];
        others.into_iter().flatten().chain([self.declaration]).collect()
    }
}

impl Ports {
    /// As configured.
    ///
    /// # Errors
    /// [`StartError::Listen`] names the setting.
    pub(crate) async fn bind(config: &Checked) -> Result<Self, StartError> {
        let declaration = &config.job_declaration;
        let declaration = Listening::on(
            "job_declaration.listen",
            declaration.listen,
            declaration.max_connections,
        );
        let declaration = declaration.await?;
        let distribution = config
            .template_distribution
            .as_ref()
            .map(|endpoint| (endpoint.listen, endpoint.max_connections));
        let mining = config.mining.as_ref();
        let of_mining = |address: Option<SocketAddr>| {
            mining.and_then(|mining| Some((address?, mining.max_connections)))
        };
        let v2 = of_mining(mining.and_then(|mining| mining.listen));
        let v1 = of_mining(mining.and_then(|mining| mining.sv1_listen));
        Ok(Self {
            declaration,
            distribution: optional("template_distribution.listen", distribution).await?,
            mining: optional("mining.listen", v2).await?,
            mining_v1: optional("mining.sv1_listen", v1).await?,
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            declaration: self.declaration.address(),
            distribution: self.distribution.as_ref().map(Listening::address),
            mining: self.mining.as_ref().map(Listening::address),
            mining_v1: self.mining_v1.as_ref().map(Listening::address),
        }
    }

    /// Takes connections in until `down`.
    pub(crate) fn serve(self, shared: &Arc<Shared>, down: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut accepting = JoinSet::new();
        let local_addr = self.declaration.address();
        accepting.spawn(self.declaration.serve(Endpoint::JobDeclaration, shared, down));
        let mut others = Vec::new();
        if let Some(templates) = &shared.templates {
            let endpoint = Endpoint::TemplateDistribution(Arc::clone(templates));
            others.push((self.distribution, endpoint, "template distribution server listening"));
        }
        if let Some(mining) = &shared.mining {
            let v2 = Endpoint::Mining(Arc::clone(mining));
            others.push((self.mining, v2, "mining server listening"));
            let v1 = Endpoint::MiningV1(Arc::clone(mining));
            others.push((self.mining_v1, v1, "mining server listening for Stratum V1"));
        }
        for (listening, endpoint, what) in others {
            let Some(listening) = listening else { continue };
            let local_addr = listening.address();
            accepting.spawn(listening.serve(endpoint, shared, down));
            info!(%local_addr, "{what}");
        }
        info!(%local_addr, authority = %shared.authority.public(), "job declaration server listening");
        accepting
    }
}

async fn optional(
    setting: &'static str,
    endpoint: Option<(SocketAddr, usize)>,
) -> Result<Option<Listening>, StartError> {
    match endpoint {
        Some((address, max)) => Listening::on(setting, address, max).await.map(Some),
        None => Ok(None),
    }
}
