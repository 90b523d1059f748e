//! Mines the first blocks of the private signet and prints their nonces, one a line, for
//! `signet/data/signet-nonces.txt`. Run it with `--release`; it takes a CPU some minutes.

fn main() -> Result<(), signet::NodeError> {
    signet::mine_premined(signet::default_threads(), |height, nonce| {
        #[expect(clippy::print_stdout, reason = "the list is this program's output")]
        {
            println!("{nonce}");
        }
        #[expect(clippy::print_stderr, reason = "progress, beside the output")]
        {
            eprintln!("block {height} of {}", signet::PREMINED_BLOCKS);
        }
    })
}
