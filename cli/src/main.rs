//! The stock command line: the built-in backends and nothing else.

fn main() -> std::process::ExitCode {
    laminar::CommandLine::new().main()
}
