//! Whether the addresses to listen on are free, or taken by the server that runs.

use std::io;
use std::net::SocketAddr;

use config::Checked;
use socket2::{Domain, Protocol, Socket, Type};

use super::code::Code;
use super::holder::{self, Process};
use super::report::Report;

pub(super) fn check(config: &Checked, server: Option<&Process>, report: &mut Report) {
    address("job_declaration.listen", config.job_declaration.listen, server, report);
    if let Some(templates) = &config.template_distribution {
        address("template_distribution.listen", templates.listen, server, report);
    }
    if let Some(mining) = &config.mining {
        for (setting, listen) in
            [("mining.listen", mining.listen), ("mining.sv1_listen", mining.sv1_listen)]
        {
            if let Some(listen) = listen {
                address(setting, listen, server, report);
            }
        }
    }
    if let Some(api) = &config.api {
        address("api.listen", api.listen, server, report);
    }
}

fn address(setting: &str, address: SocketAddr, server: Option<&Process>, report: &mut Report) {
    if address.port() == 0 {
        return report.ok(setting, format!("{address}: the system chooses a free port"));
    }
    let Err(error) = try_bind(address) else {
        return report.ok(setting, format!("{address} is free"));
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            taken(setting, address, server, holder::of_port(address.port()), report);
        }
        io::ErrorKind::AddrNotAvailable => report.bad(
            setting,
            Code::ListenAddress,
            format!("{address} is not an address of this machine"),
            format!(
                "Set `{setting}` to an address that `ip address` lists, or to 0.0.0.0:{} for all.",
                address.port()
            ),
        ),
        _ => report.bad(
            setting,
            Code::ListenAddress,
            format!("{address} can not be listened on: {error}"),
            format!(
                "Set `{setting}` to a port above 1023, which needs no special right, or give the \
                 server that right."
            ),
        ),
    }
}

/// Takes the address for a moment without listening: nobody can connect to us meanwhile.
fn try_bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // As the server does: connections that ended a moment ago are not in its way.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn taken(
    setting: &str,
    address: SocketAddr,
    server: Option<&Process>,
    owner: Option<Process>,
    report: &mut Report,
) {
    match (server, owner) {
        (Some(server), Some(owner)) if owner.id == server.id => {
            report.ok(setting, format!("{address} is in use by the running server, {server}"));
        }
        (Some(server), None) => report.ok(
            setting,
            format!("{address} is in use, as far as can be told by the running server, {server}"),
        ),
        (_, owner) => {
            let (by, port) = (owner.map(|owner| format!(" by {owner}")), address.port());
            report.bad(
                setting,
                Code::ListenTaken,
                format!("{address} is in use{}", by.unwrap_or_default()),
                format!(
                    "End that program, or set `{setting}` to another port. As root, `ss -ltnp \
                     'sport = :{port}'` names it."
                ),
            );
        }
    }
}
