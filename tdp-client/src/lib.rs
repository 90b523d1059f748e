//! Where tips, templates and transactions come from.
