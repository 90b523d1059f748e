//! The settings in force as TOML, without their secrets.

use std::path::Path;
use std::time::Duration;

use toml::Value;

use crate::check::{BYTES_PER_MB, WHOLE_BP, percent};
use crate::checked::{
    Api, Checked, JobDeclaration, Mining, Node, Payout, PoolInterface, Receipts, RpcAuth,
    StoreSettings, TemplateDistribution, TemplateProvider, UserCheck,
};
use crate::mining::terahashes;
use crate::payout::{describe, network_name};
use crate::secret::REDACTED;
use crate::store::SECONDS_PER_DAY;

impl Checked {
    /// Every setting in force, defaults included, as TOML; secrets print as [`REDACTED`].
    pub fn to_redacted_toml(&self) -> String {
        let mut out = Writer::default();
        out.text("network", network_name(self.network));
        out.path("data_dir", &self.data_dir);

        out.header("[authority]");
        out.text("public_key", &self.authority.public_key.to_string());
        out.text("secret_key", REDACTED);
        out.integer("cert_validity_secs", self.authority.cert_validity.as_secs());

        out.header("[payout]");
        self.write_payout(&mut out);
        for node in &self.nodes {
            out.header("[[node]]");
            write_node(node, &mut out);
        }
        for provider in &self.template_providers {
            out.header("[[template_provider]]");
            write_provider(provider, &mut out);
        }
        out.header("[job_declaration]");
        write_job_declaration(&self.job_declaration, &mut out);
        if let Some(settings) = &self.template_distribution {
            write_template_distribution(settings, &mut out);
        }

        write_receipts(&self.receipts, &mut out);
        if let Some(settings) = &self.pool_interface {
            write_pool_interface(settings, &mut out);
        }
        write_store(&self.store, &mut out);
        if let Some(settings) = &self.mining {
            write_mining(settings, &mut out);
        }
        out.header("[events]");
        out.text("source", &self.events.source);
        if let Some(api) = &self.api {
            write_api(api, &mut out);
        }

        out.header("[log]");
        out.text("level", self.log.level.as_str());
        out.text("format", self.log.format.as_str());
        write_user_check(&self.user_check, &mut out);
        out.0
    }

    fn write_payout(&self, out: &mut Writer) {
        match &self.payout {
            Payout::Pool { script, min_share_bp } => {
                out.text("mode", "pool");
                out.text("script", &describe(script, self.network));
                out.percent("min_pool_share_percent", *min_share_bp);
            }
            Payout::Solo { operator } => {
                out.text("mode", "solo");
                if let Some((script, _)) = operator {
                    out.text("script", &describe(script, self.network));
                }
                out.percent("fee_percent", operator.as_ref().map_or(0, |(_, fee_bp)| *fee_bp));
            }
        }
    }
}

fn write_node(node: &Node, out: &mut Writer) {
    out.text("name", &node.name);
    out.text("rpc_url", node.rpc_url.as_str());
    match &node.rpc_auth {
        Some(RpcAuth::CookieFile(path)) => out.path("rpc_cookie_file", path),
        Some(RpcAuth::UserPass { user, password: _ }) => {
            out.text("rpc_user", user);
            out.text("rpc_password", REDACTED);
        }
        None => {}
    }
    if let Some(path) = &node.ipc_socket {
        out.path("ipc_socket", path);
    }
    out.text("source", node.source.as_str());
}

fn write_provider(provider: &TemplateProvider, out: &mut Writer) {
    out.text("name", &provider.name);
    out.text("address", provider.address.as_str());
    if let Some(key) = &provider.public_key {
        out.text("public_key", &key.to_string());
    }
}

fn write_job_declaration(settings: &JobDeclaration, out: &mut Writer) {
    let modes =
        [("full-template", settings.full_template), ("coinbase-only", settings.coinbase_only)];
    let modes = modes.iter().filter(|(_, on)| *on).map(|(name, _)| Value::from(*name));
    out.text("listen", &settings.listen.to_string());
    out.value("modes", &Value::Array(modes.collect()));
    out.text("consensus_check", settings.consensus_check.as_str());
    if let Some(name) = &settings.check_node {
        out.text("check_node", name);
    }
    out.integer("tip_grace_ms", settings.tip_grace.as_millis());
    out.integer("tx_cache_mb", settings.tx_cache_bytes / BYTES_PER_MB);
    out.integer("max_connections", settings.max_connections);
}

fn write_template_distribution(settings: &TemplateDistribution, out: &mut Writer) {
    out.header("[template_distribution]");
    out.text("listen", &settings.listen.to_string());
    out.integer("fee_threshold_sat", settings.fee_threshold_sat);
    out.integer("min_interval_ms", settings.min_interval.as_millis());
    out.integer("max_connections", settings.max_connections);
}

fn write_receipts(receipts: &Receipts, out: &mut Writer) {
    out.header("[receipts]");
    if let Some((path, _)) = &receipts.key {
        out.path("key_file", path);
    }
    let keys = receipts.retired_keys.iter().map(|key| Value::from(key.to_string()));
    out.value("retired_keys", &Value::Array(keys.collect()));
}

fn write_pool_interface(settings: &PoolInterface, out: &mut Writer) {
    out.header("[pool_interface]");
    if let Some(path) = &settings.socket {
        out.path("socket", path);
    }
    if let Some((listen, token_file)) = &settings.tcp {
        out.text("listen", &listen.to_string());
        out.path("token_file", token_file);
    }
}

fn write_store(settings: &StoreSettings, out: &mut Writer) {
    let days = |age: Duration| age.as_secs() / SECONDS_PER_DAY;
    out.header("[store]");
    out.integer("stall_ms", settings.stall_after.as_millis());
    out.integer("database_mb_max", settings.database_bytes_max / BYTES_PER_MB);
    out.integer("accounting_interval_seconds", settings.accounting_interval.as_secs());
    for (table, age, bytes) in [
        ("events", settings.events_age, settings.events_bytes),
        ("templates", settings.templates_age, settings.templates_bytes),
        ("transactions", settings.transactions_age, settings.transactions_bytes),
        ("shares", settings.shares_age, settings.shares_bytes),
        ("accounting", settings.accounting_age, settings.accounting_bytes),
    ] {
        out.integer(&format!("{table}_days"), days(age));
        out.integer(&format!("{table}_mb"), bytes / BYTES_PER_MB);
    }
}

fn write_mining(settings: &Mining, out: &mut Writer) {
    out.header("[mining]");
    for (key, address) in [("listen", settings.listen), ("sv1_listen", settings.sv1_listen)] {
        out.text(key, &address.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    }
    out.value("shares_per_minute", &Value::from(settings.shares_per_minute));
    out.integer("share_batch_size", settings.share_batch_size);
    out.value("min_hashrate_ths", &Value::from(terahashes(settings.min_hashrate)));
    out.value("sv1_start_hashrate_ths", &Value::from(terahashes(settings.sv1_start_hashrate)));
    out.text("pool_tag", &settings.pool_tag);
    out.integer("fee_threshold_sat", settings.fee_threshold_sat);
    out.integer("min_interval_ms", settings.min_interval.as_millis());
    out.integer("max_connections", settings.max_connections);
    out.integer("max_channels_per_connection", settings.max_channels_per_connection);
}

fn write_api(api: &Api, out: &mut Writer) {
    out.header("[api]");
    out.text("listen", &api.listen.to_string());
    for (key, path) in [("token_file", &api.token_file), ("read_token_file", &api.read_token_file)]
    {
        if let Some(path) = path {
            out.path(key, path);
        }
    }
    out.value("open_reads", &Value::from(api.open_reads));
    for (key, texts) in [("hosts", &api.hosts), ("webhook_allow", &api.webhook_allow)] {
        let texts = texts.iter().map(|text| Value::from(text.as_str()));
        out.value(key, &Value::Array(texts.collect()));
    }
}

fn write_user_check(check: &UserCheck, out: &mut Writer) {
    out.header("[user_check]");
    match check {
        UserCheck::AllowAll => out.text("mode", "allow-all"),
        UserCheck::List(list) => {
            out.text("mode", "list");
            let users = list.users.iter().map(|name| Value::from(name.as_str()));
            out.value("users", &Value::Array(users.collect()));
            if let Some(path) = &list.file {
                out.path("users_file", path);
            }
        }
        UserCheck::Callback(callback) => {
            out.text("mode", "callback");
            out.text("url", &callback.url);
            if let Some(path) = &callback.token_file {
                out.path("check_token_file", path);
            }
            out.integer("timeout_ms", callback.timeout.as_millis());
            out.integer("cache_seconds", callback.cache.as_secs());
            out.text("when_down", if callback.allow_when_down { "allow" } else { "deny" });
        }
    }
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    fn header(&mut self, header: &str) {
        self.0.push_str(&format!("\n{header}\n"));
    }

    fn value(&mut self, key: &str, value: &Value) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, &Value::from(text));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, &path.display().to_string());
    }

    fn integer(&mut self, key: &str, number: impl std::fmt::Display) {
        self.0.push_str(&format!("{key} = {number}\n"));
    }

    fn percent(&mut self, key: &str, bp: u16) {
        debug_assert!(bp <= WHOLE_BP, "{bp} basis points are more than the whole");
        // Prints 99.5 and 100, both of which TOML reads.
        self.integer(key, percent(bp));
    }
}
