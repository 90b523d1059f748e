//! The guide's table of rejections is made from the code. `UPDATE_REFERENCE=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use validation::rejection::{ErrorCode, Reason};

fn table() -> String {
    let mut text = String::from(
        "# Rejections\n\n\
         A refused declaration is answered with `DeclareMiningJob.Error`: an error code for the \
         client's software, and in `error_details` one line of `key=value` pairs for people: the \
         reason below, and where they apply the position of the offender (`index`), what was \
         expected and what was found. The same goes into the server's log.\n\n\
         After `stale-chain-tip` the reference client (`jd_client_sv2`) stays: it logs the answer \
         and declares again with its next template, not at once. After any other code it leaves \
         the pool.\n",
    );
    for code in ErrorCode::ALL {
        let _ = write!(text, "\n## `{code}`\n\n| reason | meaning |\n|---|---|\n");
        for reason in Reason::ALL.iter().filter(|reason| reason.code() == code) {
            let _ = writeln!(text, "| `{reason}` | {} |", reason.meaning());
        }
    }
    text
}

#[test]
fn the_guide_lists_every_reason_as_the_code_has_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/src/rejections.md");
    let table = table();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        written, table,
        "guides/src/rejections.md is not what the code says; run \
         UPDATE_REFERENCE=1 cargo test -p jds-validation --test reasons"
    );
}
