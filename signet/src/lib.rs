//! Gets Bitcoin Core and runs private chains.
