//! The reference implementation's Job Declaration Client, set up for one of our servers.

use std::fmt::Write;
use std::net::SocketAddr;

use bitcoin::Address;
use jds_wire::Secp256k1PublicKey;
use signet::Node;

use crate::World;
use crate::reference::{JD_CLIENT, Running, free_address, mining_device_with};

/// Where a client gets its templates.
#[derive(Debug, Clone, Copy)]
pub enum TemplatesOf<'a> {
    /// The server itself, which has to serve them.
    Server,
    /// A node of the miner's own, over its IPC.
    Node(&'a Node),
}

/// How a client is set up.
#[derive(Debug, Clone)]
pub struct JdClientSetup<'a> {
    /// Whom its shares are for: `user.worker`.
    pub user: &'a str,
    /// Shares that it wants of its own miners in a minute.
    pub shares_per_minute: f32,
    /// It says to us what it mines, or the coinbase alone.
    pub full_template: bool,
    /// Where its templates come from.
    pub templates: TemplatesOf<'a>,
    /// Pool and job declaration server, in the order in which they are tried; those of the world if
    /// there are none.
    pub upstreams: Vec<(SocketAddr, SocketAddr)>,
}

/// A client that runs, for miners of its own.
#[derive(Debug)]
pub struct JdClient {
    /// The program.
    pub program: Running,
    /// Where its miners connect.
    pub address: SocketAddr,
    /// The key that they pin.
    pub key: String,
}

impl<'a> JdClientSetup<'a> {
    /// Templates of the server, and so many shares that on regtest, where each is a block, the next
    /// does not come before the node has its transactions in a template.
    pub fn new(user: &'a str) -> Self {
        Self {
            user,
            shares_per_minute: 12.0,
            full_template: true,
            templates: TemplatesOf::Server,
            upstreams: Vec::new(),
        }
    }

    /// Starts it, and waits until it is ready for miners.
    #[track_caller]
    pub fn start(&self, world: &World) -> JdClient {
        let (secret, public) = config::keys::generate().expect("a key");
        let address = free_address();
        let script = world.node().mining_script();
        let network = world.node().chain().network();
        let reward = Address::from_script(script.as_script(), network).expect("an address");
        let mut config = format!(
            "listening_address = \"{address}\"\n\
             max_supported_version = 2\n\
             min_supported_version = 2\n\
             authority_public_key = \"{public}\"\n\
             authority_secret_key = \"{secret}\"\n\
             cert_validity_sec = 3600\n\
             user_identity = \"{user}\"\n\
             shares_per_minute = {shares_per_minute:?}\n\
             share_batch_size = 1\n\
             mode = \"{mode}\"\n\
             jdc_signature = \"test\"\n\
             coinbase_reward_script = \"addr({reward})\"\n\
             supported_extensions = [2]\n\
             required_extensions = []\n",
            secret = secret.expose_text().as_str(),
            user = self.user,
            mode = if self.full_template { "FULLTEMPLATE" } else { "COINBASEONLY" },
            shares_per_minute = self.shares_per_minute,
        );
        let own = [(world.mining(), world.address())];
        let upstreams = if self.upstreams.is_empty() { &own[..] } else { &self.upstreams };
        for upstream in upstreams {
            config.push_str(&table(upstream, &world.authority, self.user));
        }
        config.push_str(&self.template_provider(world));
        let program = Running::with_config(JD_CLIENT, &config);
        program.wait_listening(address);
        JdClient { program, address, key: public.to_string() }
    }

    fn template_provider(&self, world: &World) -> String {
        match self.templates {
            TemplatesOf::Server => format!(
                "[template_provider_type.Sv2Tp]\naddress = \"{}\"\npublic_key = \"{}\"\n",
                world.server.template_addr().expect("a server that serves templates"),
                world.authority
            ),
            TemplatesOf::Node(node) => format!(
                "[template_provider_type.BitcoinCoreIpc]\n\
                 version = 31\nnetwork = \"{}\"\ndata_dir = {:?}\n\
                 fee_threshold = 1\nmin_interval = 1\n",
                node.chain().name(),
                node.datadir()
            ),
        }
    }
}

fn table((pool, jds): &(SocketAddr, SocketAddr), key: &Secp256k1PublicKey, user: &str) -> String {
    let mut table = format!("[[upstreams]]\nauthority_pubkey = \"{key}\"\n");
    for (name, address) in [("pool", pool), ("jds", jds)] {
        let (ip, port) = (address.ip(), address.port());
        // Writing to a string does not fail.
        let _ = writeln!(table, "{name}_address = \"{ip}\"\n{name}_port = {port}");
    }
    let _ = writeln!(table, "user_identity = \"{user}\"");
    table
}

impl JdClient {
    /// A CPU miner at it. `more`: further arguments.
    pub fn device(&self, more: &[&str]) -> Running {
        mining_device_with(self.address, &self.key, "miner", more)
    }
}
