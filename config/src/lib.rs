//! Configuration: TOML and environment to checked settings, with redacted secrets.
