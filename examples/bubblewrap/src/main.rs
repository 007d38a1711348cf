//! The whole command line of laminar, with one more backend.

fn main() -> std::process::ExitCode {
    laminar::CommandLine::new().backend(laminar_bubblewrap::backend()).main()
}
