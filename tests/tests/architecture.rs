//! The house rules that a compiler does not check: who may depend on whom, and that the pure
//! crates stay pure. Read off `cargo metadata`, so that a new dependency can not slip past.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate of ours, and which of ours it may depend on.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("jds-validation", &[]),
    ("jds-wire", &[]),
    ("jds-config", &["jds-validation"]),
    ("jds-tdp-client", &["jds-wire", "jds-validation"]),
    ("jds-store", &["jds-validation"]),
    ("jds-api", &["jds-store", "jds-validation"]),
    ("jds-signet", &["jds-config"]),
    ("jds-mining", &["jds-wire", "jds-validation"]),
    ("jds", BELOW_THE_SERVER),
    ("jds-tests", EVERYTHING),
];

/// Only the server knows everyone.
const BELOW_THE_SERVER: &[&str] = &[
    "jds-wire",
    "jds-mining",
    "jds-config",
    "jds-tdp-client",
    "jds-store",
    "jds-api",
    "jds-signet",
    "jds-validation",
];

const EVERYTHING: &[&str] = &[
    "jds",
    "jds-wire",
    "jds-mining",
    "jds-config",
    "jds-tdp-client",
    "jds-store",
    "jds-api",
    "jds-signet",
    "jds-validation",
];

/// Crates that must work without a runtime: nothing they depend on may bring one in.
const WITHOUT_RUNTIME: &[&str] = &["jds-validation", "jds-wire", "jds-config", "jds-mining"];

struct Graph {
    names: BTreeMap<String, String>,
    /// Package id to the ids it depends on, development and build dependencies left out.
    edges: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
}

/// The platform that this runs on, such as `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn graph() -> Graph {
    // For this platform only: of the others, cargo has not downloaded what they need.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host()])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let names = list(&metadata["packages"]).into_iter().map(|p| (text(&p["id"]), text(&p["name"])));
    let edges = list(&metadata["resolve"]["nodes"]).into_iter().map(|node| {
        let normal = list(&node["deps"]).into_iter().filter(|dependency| {
            list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
        });
        (text(&node["id"]), normal.map(|dependency| text(&dependency["pkg"])).collect())
    });
    Graph {
        names: names.collect(),
        edges: edges.collect(),
        ours: list(&metadata["workspace_members"]).iter().map(text).collect(),
    }
}

impl Graph {
    fn reachable(&self, name: &str) -> BTreeSet<&str> {
        let id = self.ours.iter().find(|id| self.names[*id] == name).unwrap();
        let (mut seen, mut todo) = (BTreeSet::new(), vec![id]);
        while let Some(id) = todo.pop() {
            for dependency in &self.edges[id] {
                if seen.insert(self.names[dependency].as_str()) {
                    todo.push(dependency);
                }
            }
        }
        seen
    }
}

#[test]
fn crates_depend_only_on_those_they_may() {
    let graph = graph();
    let rules: BTreeMap<_, _> = MAY_DEPEND_ON.iter().copied().collect();
    for id in &graph.ours {
        let name = &graph.names[id];
        let allowed = rules
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is new: say above on whom it may depend"));
        for dependency in graph.edges[id].intersection(&graph.ours) {
            let dependency = graph.names[dependency].as_str();
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_pure_crates_bring_in_no_runtime() {
    let graph = graph();
    for name in WITHOUT_RUNTIME {
        let reachable = graph.reachable(name);
        for runtime in ["tokio", "async-std", "mio", "socket2"] {
            assert!(!reachable.contains(runtime), "{name} must not bring in {runtime}");
        }
    }
}
