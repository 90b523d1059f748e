//! What `[store]`, `[events]` and `data_dir` mean for the store.

use std::time::Duration;

use store::{Keep, Retention, Settings};

/// The settings of the store that the configuration asks for. What has no key keeps the store's
/// default.
pub(crate) fn store_settings(config: &config::Checked) -> Settings {
    let kept = &config.store;
    let default = Retention::default();
    let retention = Retention {
        events: keep(kept.events_age, kept.events_bytes),
        templates: keep(kept.templates_age, kept.templates_bytes),
        transactions: keep(kept.transactions_age, kept.transactions_bytes),
        // Never longer than accepted ones, and they are of use to nobody for long.
        rejected: Keep {
            age_ms: default.rejected.age_ms.min(age_ms(kept.templates_age)),
            ..default.rejected
        },
        shares: keep(kept.shares_age, kept.shares_bytes),
        accounting: keep(kept.accounting_age, kept.accounting_bytes),
        ..default
    };
    Settings {
        dir: config.data_dir.clone(),
        network: config::network_name(config.network).to_owned(),
        source: config.events.source.clone(),
        stall_after: kept.stall_after,
        retention,
        accounting_interval: kept.accounting_interval,
        database_bytes_max: kept.database_bytes_max,
    }
}

fn keep(age: Duration, bytes: u64) -> Keep {
    Keep { age_ms: age_ms(age), bytes }
}

/// Ages come from whole days of ten years at most.
fn age_ms(age: Duration) -> u64 {
    age.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const MB: u64 = 1_000_000;

    fn settings(tables: &str) -> Settings {
        let (secret, _) = config::keys::generate().unwrap();
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"/somewhere\"\n[authority]\nsecret_key = {:?}\n\
             [payout]\nmode = \"pool\"\n\
             script = \"raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)\"\n\
             [[node]]\nname = \"main\"\nrpc_cookie_file = \"cookie\"\n{tables}",
            &*secret.expose_text()
        );
        let checked = config::parse(&text, Path::new("/x/jds.toml"), std::iter::empty());
        store_settings(&checked.unwrap())
    }

    /// The figures of the reference are those of the store.
    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_store() {
        let expected = Settings { network: "regtest".to_owned(), ..Settings::new("/somewhere") };
        assert_eq!(settings(""), expected);
    }

    #[test]
    fn the_reference_says_what_becomes_of_rejected_templates() {
        let Keep { age_ms, bytes } = Retention::default().rejected;
        let said = format!(
            "Rejected ones go after {} days at the latest, and above {} megabytes.",
            age_ms / DAY_MS,
            bytes / MB
        );
        assert!(config::reference_markdown().contains(&said), "{said}");
    }

    #[test]
    fn every_key_arrives() {
        let settings = settings(
            "[store]\nstall_ms = 1234\ndatabase_mb_max = 3\nevents_days = 4\nevents_mb = 10\n\
             templates_days = 5\ntemplates_mb = 11\ntransactions_days = 7\ntransactions_mb = 6\n\
             shares_days = 8\nshares_mb = 12\naccounting_interval_seconds = 9\n\
             accounting_days = 14\naccounting_mb = 15\n[events]\nsource = \"here\"\n",
        );
        let default = Retention::default();
        let expected = Settings {
            dir: "/somewhere".into(),
            network: "regtest".to_owned(),
            source: "here".to_owned(),
            stall_after: Duration::from_millis(1_234),
            database_bytes_max: 3 * MB,
            accounting_interval: Duration::from_secs(9),
            retention: Retention {
                events: Keep { age_ms: 4 * DAY_MS, bytes: 10 * MB },
                templates: Keep { age_ms: 5 * DAY_MS, bytes: 11 * MB },
                transactions: Keep { age_ms: 7 * DAY_MS, bytes: 6 * MB },
                rejected: Keep { age_ms: 5 * DAY_MS, ..default.rejected },
                shares: Keep { age_ms: 8 * DAY_MS, bytes: 12 * MB },
                accounting: Keep { age_ms: 14 * DAY_MS, bytes: 15 * MB },
                ..default
            },
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn rejected_templates_go_before_accepted_ones() {
        let settings = settings("[store]\ntemplates_days = 365\n");
        assert_eq!(settings.retention.templates.age_ms, 365 * DAY_MS);
        assert_eq!(settings.retention.rejected, Retention::default().rejected);
    }
}
