//! The disk of the data directory is full.

use jds_tests::Setup;

use crate::http::with_api;
use crate::outage::{self, Outage};
use crate::small_disk::{SmallDisk, rerun_on_a_small_disk};

#[tokio::test(flavor = "multi_thread")]
async fn mining_goes_on_while_the_disk_is_full() {
    let Some(disk) = SmallDisk::of_this_process() else {
        rerun_on_a_small_disk("full_disk::mining_goes_on_while_the_disk_is_full");
        return;
    };
    let (setup, _token) = with_api(Setup::new());
    let setup = setup.table("store", &outage::store_settings());
    let world = setup.data_dir(disk.path()).start().await;
    let outage = Outage {
        reason: disk.reason(),
        keeps_files: false,
        begin: || disk.fill(),
        end: |()| disk.free(),
    };
    outage.mine_through(world).await;
}
