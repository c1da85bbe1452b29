//! howdah's binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use howdah::cli::{self, Cli};
use howdah::console::terminal;

fn main() -> ExitCode {
    // What howdah writes (logs, sandboxes) is its user's own affair.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let cli = Cli::parse();
    if let Err(error) = color_eyre::install() {
        complain(&format!("error reports will be plain: {error}"));
    }
    terminal::install_panic_restore();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run(cli));
            // A blocking task of a probe may still be at work; nobody waits for it.
            runtime.shutdown_timeout(std::time::Duration::from_millis(200));
            exit.into()
        }
        Err(error) => {
            complain(&format!("error: the runtime does not start: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(words: &str) {
    cli::say::err(words);
}
