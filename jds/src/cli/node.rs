//! `jds node install` and `jds node path`.

use signet::provision;

/// Gets a node, with progress on standard error, and prints its path.
pub(super) fn install() -> anyhow::Result<()> {
    let node = provision::install(&mut provision::Lines(std::io::stderr()))?;
    println!("{}", node.path.display());
    Ok(())
}

/// Prints the path of the node that is there.
pub(super) fn path() -> anyhow::Result<()> {
    println!("{}", provision::locate()?.path.display());
    Ok(())
}
