//! Every key of every table.

use super::kept::{API, EVENTS, RECEIPTS, STORE};
use super::mining::MINING;
use super::pool::POOL_INTERFACE;
use super::user_check::USER_CHECK;
use super::{Key, Kind, MEGABYTES, Need, PROVIDERS, Table, key};

/// Every key, in the order of the reference.
pub(crate) static TABLES: &[Table] = &[
    Table {
        name: "",
        array: false,
        optional: None,
        meaning: "Network and storage.",
        keys: GENERAL,
    },
    Table {
        name: "authority",
        array: false,
        optional: None,
        meaning: "The server's identity: the key pair that signs the Noise certificates (SV2 4.5). \
                  Make one with `jds keygen --out FILE`.",
        keys: AUTHORITY,
    },
    Table {
        name: "payout",
        array: false,
        optional: None,
        meaning: "Who is paid by a block.",
        keys: PAYOUT,
    },
    Table {
        name: "node",
        array: true,
        optional: None,
        meaning: "A Bitcoin Core node; repeat the table for each further one. Found blocks go to \
                  all of them. Exactly one way to log in: a cookie file, or a user and a password.",
        keys: NODE,
    },
    Table {
        name: "job_declaration",
        array: false,
        optional: None,
        meaning: "The job declaration endpoint (SV2 6).",
        keys: JOB_DECLARATION,
    },
    Table {
        name: PROVIDERS,
        array: true,
        optional: Some("tips and templates come from the nodes alone"),
        meaning: "A template provider, any server of template distribution (SV2 7); repeat the table \
                  for each further one. Beside nodes it is one more source of tips, transactions and \
                  templates, and the nodes have the last word. Without any [[node]] only templates \
                  and coinbase-only declarations can be served: a provider takes no blocks but those \
                  of its own templates.",
        keys: TEMPLATE_PROVIDER,
    },
    Table {
        name: "receipts",
        array: false,
        optional: None,
        meaning: "How verdicts are signed: the receipt of an accepted template is its mining job \
                  token, and a rejection carries a proof.",
        keys: RECEIPTS,
    },
    Table {
        name: "pool_interface",
        array: false,
        optional: Some("no pool interface"),
        meaning: "For a pool with a stratum server of its own, on this machine: custom jobs, shares \
                  and blocks over HTTP. At least one of listen and socket.",
        keys: POOL_INTERFACE,
    },
    Table {
        name: "store",
        array: false,
        optional: None,
        meaning: "What is kept in data_dir, and for how long. Of each kind, what is older than its \
                  days goes, and above its megabytes the oldest, whichever comes first. A \
                  megabyte is 1,000,000 bytes of content; the file is about a fifth larger. \
                  Blocks and statistics by day are kept for ever.",
        keys: STORE,
    },
    Table {
        name: "mining",
        array: false,
        optional: Some("miners are not served"),
        meaning: "Miners: Stratum V2 (SV2 5) and Stratum V1 beside it, on jobs of the pool's own \
                  templates, and over Stratum V2 on jobs that miners chose. Who is paid is in \
                  payout.",
        keys: MINING,
    },
    Table {
        name: "events",
        array: false,
        optional: None,
        meaning: "The events that other programs read.",
        keys: EVENTS,
    },
    Table {
        name: "api",
        array: false,
        optional: Some("no HTTP API"),
        meaning: "The HTTP API: events, queries, webhooks, metrics and health.",
        keys: API,
    },
    Table {
        name: "log",
        array: false,
        optional: None,
        meaning: "What is logged, and how.",
        keys: LOG,
    },
    Table {
        name: "template_distribution",
        array: false,
        optional: Some("templates are not given out"),
        meaning: "The template distribution endpoint (SV2 7): templates of the nodes for any client \
                  of that protocol, such as a Job Declaration Client or a pool. Signed with the same \
                  authority key.",
        keys: TEMPLATE_DISTRIBUTION,
    },
    Table {
        name: "user_check",
        array: false,
        optional: None,
        meaning: "Who may mine and declare here: asked when a mining channel is opened, a worker \
                  logs in or a token is allocated, by the user's name alone and never by what is \
                  mined.",
        keys: USER_CHECK,
    },
];

const GENERAL: &[Key] = &[
    key(
        "network",
        Kind::Choice(&["mainnet", "testnet4", "signet", "regtest"]),
        Need::Required,
        "The chain of the nodes and of the payout script.",
    )
    .example("\"regtest\""),
    key(
        "data_dir",
        Kind::Path,
        Need::Default("\"data\""),
        "Directory for everything that the server keeps. Relative paths, here and in every other \
         key, start at the directory of the configuration file.",
    ),
];

const AUTHORITY: &[Key] = &[
    key(
        "public_key",
        Kind::Text,
        Need::Optional("derived from the secret key"),
        "What miners pin: base58check of version 1 and the x-only key, as SV2 writes it. When \
         given, it must belong to the secret key.",
    )
    .example("\"9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\""),
    key(
        "secret_key_file",
        Kind::Path,
        Need::Preferred("required, unless secret_key is set"),
        "File with the secret key, mode 600.",
    )
    .example("\"authority.key\""),
    key(
        "secret_key",
        Kind::Text,
        Need::Optional("secret_key_file is read"),
        "The secret key itself, base58check. A file, or the environment variable, keeps it out of \
         backups of the configuration.",
    )
    .example("\"…\"")
    .secret(),
    key(
        "cert_validity_secs",
        Kind::Integer { min: 1, max: 31_536_000 },
        Need::Default("3600"),
        "How long the certificate that a connection gets in its handshake is valid.",
    )
    .unit("seconds"),
];

const PAYOUT: &[Key] = &[
    key(
        "mode",
        Kind::Choice(&["pool", "solo"]),
        Need::Required,
        "pool: the pool's script is paid, and the pool pays its miners. solo: each miner's own \
         script is paid, minus the operator's fee.",
    )
    .example("\"pool\""),
    key(
        "script",
        Kind::Text,
        Need::Preferred("required in pool mode, and in solo mode with a fee"),
        "Output descriptor of the pool's (solo: the operator's) script. Accepted: addr(ADDRESS), \
         raw(HEX), pk(KEY), pkh(KEY), wpkh(KEY), sh(…), wsh(…), tr(…) or multi(…), with public \
         keys only, no wildcard, and optionally #checksum.",
    )
    .example("\"addr(bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080)\""),
    key(
        "min_pool_share_percent",
        Kind::Number { min: 0.01, max: 100.0 },
        Need::DefaultWhen { key: "mode", is: "pool", value: "100" },
        "Least part of the claimable value (subsidy and fees) that the pool's script must get. \
         Only in pool mode; two decimals at most.",
    )
    .unit("percent"),
    key(
        "fee_percent",
        Kind::Number { min: 0.0, max: 100.0 },
        Need::DefaultWhen { key: "mode", is: "solo", value: "0" },
        "The operator's part of the claimable value, paid to script. Only in solo mode; two \
         decimals at most.",
    )
    .unit("percent"),
];

const NODE: &[Key] = &[
    key(
        "name",
        Kind::Text,
        Need::Required,
        "Unique name, for logs, metrics and check_node: 1 to 64 letters, digits, `-`, `_` or `.`.",
    )
    .example("\"main\""),
    key(
        "rpc_url",
        Kind::Text,
        Need::Default("\"http://127.0.0.1\""),
        "http://HOST:PORT of its JSON-RPC. Without a port, Bitcoin Core's default port of the \
         network is taken.",
    ),
    key(
        "rpc_cookie_file",
        Kind::Path,
        Need::Preferred("required, unless rpc_user or source = \"ipc\" is set"),
        "The cookie file that Bitcoin Core writes at each start.",
    )
    .example("\"/home/bitcoin/.bitcoin/regtest/.cookie\""),
    key("rpc_user", Kind::Text, Need::Optional("the cookie is used"), "User name of `rpcauth`.")
        .example("\"jds\""),
    key(
        "rpc_password",
        Kind::Text,
        Need::Optional("rpc_password_file or the cookie is used"),
        "Password of rpc_user.",
    )
    .example("\"…\"")
    .secret(),
    key(
        "rpc_password_file",
        Kind::Path,
        Need::Optional("rpc_password or the cookie is used"),
        "File with the password of rpc_user.",
    )
    .example("\"rpc.password\""),
    key(
        "ipc_socket",
        Kind::Path,
        Need::Optional("no IPC"),
        "Unix socket of the node's IPC (`-ipcbind=unix`), 103 bytes at most.",
    )
    .example("\"/home/bitcoin/.bitcoin/regtest/node.sock\""),
    key(
        "source",
        Kind::Choice(&["rpc", "ipc"]),
        Need::Default("\"rpc\""),
        "How the server talks with the node. ipc: Bitcoin Core 30 or newer; needs ipc_socket, and \
         for what that version's IPC lacks a way to log in to rpc_url too (30 and 31 need it, newer \
         ones do not).",
    ),
];

const TEMPLATE_PROVIDER: &[Key] = &[
    key(
        "name",
        Kind::Text,
        Need::Preferred("required"),
        "Unique name among nodes and template providers, for logs and metrics: 1 to 64 letters, \
         digits, `-`, `_` or `.`.",
    )
    .example("\"provider\""),
    key(
        "address",
        Kind::Text,
        Need::Preferred("required"),
        "HOST:PORT where it listens, host name or IP address.",
    )
    .example("\"127.0.0.1:8442\""),
    key(
        "public_key",
        Kind::Text,
        Need::Optional("whoever answers at the address is believed"),
        "Its authority key, base58check as SV2 writes it. When given, nobody else is believed.",
    )
    .example("\"9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\""),
];

const JOB_DECLARATION: &[Key] = &[
    key(
        "listen",
        Kind::Text,
        Need::Default("\"127.0.0.1:34264\""),
        "IP address and TCP port to listen on; 0.0.0.0 or [::] stand for all interfaces.",
    ),
    key(
        "modes",
        Kind::Choices(&["full-template", "coinbase-only"]),
        Need::Default("[\"full-template\", \"coinbase-only\"]"),
        "Modes that are offered, at least one. full-template: the miner declares all transactions. \
         coinbase-only: only the coinbase, so a found block can not be assembled here.",
    ),
    key(
        "consensus_check",
        Kind::Choice(&["off", "after-accept", "before-accept"]),
        Need::Default("\"after-accept\""),
        "When a node checks the consensus rules (never policy) of a declared job. after-accept: \
         the job is accepted at once, and withdrawn should it fail.",
    ),
    key(
        "check_node",
        Kind::Text,
        Need::Optional("the node in use"),
        "Name of the [[node]] that runs the consensus checks.",
    )
    .example("\"main\""),
    key(
        "tip_grace_ms",
        Kind::Integer { min: 0, max: 60_000 },
        Need::Default("2000"),
        "How long a job that is one block ahead waits for our node to follow.",
    )
    .unit("milliseconds"),
    key(
        "tx_cache_mb",
        Kind::Integer { min: 1, max: 1_000_000 },
        Need::Default("300"),
        "Bound of the transaction cache that all connections share.",
    )
    .unit(MEGABYTES),
    key(
        "max_connections",
        Kind::Integer { min: 1, max: 100_000 },
        Need::Default("2000"),
        "Connections at once; a further one is refused. Each needs a file descriptor: the server \
         raises its limit at the start as far as it may, and takes fewer connections where that \
         is too little.",
    )
    .unit("connections"),
];

const TEMPLATE_DISTRIBUTION: &[Key] = &[
    key(
        "listen",
        Kind::Text,
        Need::Default("\"127.0.0.1:8442\""),
        "IP address and TCP port to listen on. Whoever can connect gets templates: without another \
         guard, leave it on this machine or a private network.",
    ),
    key(
        "fee_threshold_sat",
        Kind::Integer { min: 1, max: 100_000_000 },
        Need::Default("1000"),
        "On an unchanged tip a new template is sent when its fees are higher by this much than those \
         of the last one sent.",
    )
    .unit("satoshi"),
    key(
        "min_interval_ms",
        Kind::Integer { min: 100, max: 600_000 },
        Need::Default("5000"),
        "And not more often than this. A new tip is always told at once.",
    )
    .unit("milliseconds"),
    key(
        "max_connections",
        Kind::Integer { min: 1, max: 100_000 },
        Need::Default("1000"),
        "Connections at once; a further one is refused. Each needs a file descriptor, as those of \
         job_declaration do.",
    )
    .unit("connections"),
];

const LOG: &[Key] = &[
    key(
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Need::Default("\"info\""),
        "Least severe level that is logged. info: one line per declaration; debug: every message.",
    ),
    key(
        "format",
        Kind::Choice(&["text", "json"]),
        Need::Default("\"text\""),
        "text for people, json for one object per line.",
    ),
];
