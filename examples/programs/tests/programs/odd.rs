//! A flow program for tests: it fails in every way, and starts another flow program.

use std::process::Command;

use laminar::prelude::*;

fn main() -> ExitCode {
    let flow = Flow::new("Odd");
    // In a container, the folder where the program was started is `/flow`.
    flow.container(Container::new().mounts([".:/flow:ro"]).workdir("/flow"));
    flow.go_on_after_failures();
    flow.layer("Chain", || -> laminar::Result<u32> {
        let text = std::fs::read_to_string("/nowhere").context("cannot read the folds").context("cannot train")?;
        Ok(text.parse()?)
    });
    flow.layer("Panic", || -> laminar::Result<u32> { panic!("it was too much") });
    // The program that is beside this one, with an execution of its own.
    flow.layer("Nested", || {
        let hello = std::env::current_exe()?.with_file_name("hello");
        let ended = Command::new(hello).args(["run", "--root", "nested", "--quiet"]).status()?;
        Ok(ended.code())
    });
    // Slow where there is a file `slow`.
    let slow = flow.foreach("Slow", (0..8).collect::<Vec<u32>>(), |n| {
        while std::fs::exists("slow")? {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(n)
    });
    flow.layer_with("Sum", slow.join(), |all| Ok(all.iter().sum::<u32>()));
    if std::env::var_os("ODD_TWICE").is_some() {
        flow.layer("Chain", || Ok(1));
    }
    laminar::main(flow)
}
