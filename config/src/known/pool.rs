//! The keys of `[pool_interface]`.

use super::{Key, Kind, Need, key};

pub(super) const POOL_INTERFACE: &[Key] = &[
    key(
        "socket",
        Kind::Path,
        Need::Optional("no unix socket"),
        "Path of a unix socket, 103 bytes at most. It is made for owner and group alone (mode \
         0660); who may open it needs no token.",
    )
    .example("\"pool.sock\""),
    key(
        "listen",
        Kind::Text,
        Need::Optional("no TCP port"),
        "IP address of this machine and TCP port; needs token_file.",
    )
    .example("\"127.0.0.1:9333\""),
    key(
        "token_file",
        Kind::Path,
        Need::Optional("required with listen"),
        "File with the token that requests over TCP show (`Authorization: Bearer …`): 16 characters \
         or more on one line, in a file that not everybody can read. Not a token of the API.",
    )
    .example("\"pool.token\""),
];
