//! The server side of the Mining Protocol.
