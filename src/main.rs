//! The `holdfast` program: reads the command line, runs the command, tells what went wrong.

use std::process::ExitCode;

use holdfast::cli::{self, Cli, output};
use holdfast::telemetry;

/// glibc's allocator keeps the memory of large packuments after they are gone; this one gives it back. Built with `no_thp`:
/// with huge pages it was measured to hold two to four times as much, for no gain.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ended = cli::run(Cli::of_this_process());
    telemetry::flush();
    ended.unwrap_or_else(|error| {
        output::failure(&error, None);
        ExitCode::FAILURE
    })
}
