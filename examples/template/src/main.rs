//! The command line of laminar, with one more backend.

fn main() -> std::process::ExitCode {
    laminar::CommandLine::new().backend(laminar_mine::backend()).main()
}
