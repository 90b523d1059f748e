//! Who may mine and declare: a list has names, and a callback answers as the server needs it.

use config::{Checked, UserCheck};
use jds::user_check::Asker;

use super::code::Code;
use super::report::Report;

const NAME: &str = "user check";

/// The user that is asked about; whether it may mine does not matter.
const SOMEBODY: &str = "jds-doctor";

pub(super) fn check(config: &Checked, report: &mut Report) {
    let callback = match &config.user_check {
        UserCheck::AllowAll => return,
        UserCheck::List(list) => {
            let message = format!("{} users may mine and declare, nobody else", list.names.len());
            return report.ok(NAME, message);
        }
        UserCheck::Callback(callback) => callback,
    };
    let asker = match Asker::new(callback) {
        Ok(asker) => asker,
        Err(error) => {
            return report.bad(
                NAME,
                Code::TokenFile,
                format!("user_check.check_token_file: {error}"),
                "Put one line of secret text into the file that only the server's user can read \
                 (chmod 600).",
            );
        }
    };
    match asker.ask(SOMEBODY) {
        Ok(_) => report.ok(NAME, format!("{} answers", callback.url)),
        Err(error) => report.bad(
            NAME,
            Code::UserCheckDown,
            format!("{}: {error}", callback.url),
            format!(
                "Start the program that knows the users, or correct `user_check.url`. Until it \
                 answers, users of whom no answer is known are {}.",
                if callback.allow_when_down { "allowed" } else { "turned away" }
            ),
        ),
    }
}
