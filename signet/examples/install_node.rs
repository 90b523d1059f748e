//! Gets a Bitcoin Core as `jds node install` does, and prints where it is. To see a download or a
//! build although there is one already, unset `BITCOIN_NODE_EXE` and point `XDG_CACHE_HOME` at an
//! empty folder.

use signet::provision;

fn main() -> Result<(), provision::ProvisionError> {
    let exe = provision::install(&mut provision::Lines(std::io::stderr()))?;
    #[expect(clippy::print_stdout, reason = "the path is this program's output")]
    {
        println!("{} ({}, from {})", exe.path.display(), exe.version, exe.origin);
    }
    Ok(())
}
