//! End-to-end tests and load, with real peers and a real node.
