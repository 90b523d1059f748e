//! Another process holds the database locked, as a backup or a repair by hand might.

use jds_tests::Setup;
use rusqlite::Connection;

use crate::http::with_api;
use crate::outage::{self, Outage};

#[tokio::test(flavor = "multi_thread")]
async fn mining_goes_on_while_the_database_is_locked() {
    let (setup, _token) = with_api(Setup::new());
    let world = setup.table("store", &outage::store_settings()).start().await;
    let file = world.data_dir().join("jds.sqlite");
    let outage = Outage {
        reason: "locked",
        keeps_files: true,
        begin: || {
            let other = Connection::open(file).unwrap();
            other.busy_timeout(jds_tests::PATIENCE).unwrap();
            other.execute_batch("BEGIN EXCLUSIVE").unwrap();
            other
        },
        end: |other: Connection| other.execute_batch("ROLLBACK").unwrap(),
    };
    outage.mine_through(world).await;
}
