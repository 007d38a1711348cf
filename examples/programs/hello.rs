//! The first flow: a greeting, a sequence, its squares, and a layer that reads all of it.

use laminar::prelude::*;

fn main() -> ExitCode {
    let flow = Flow::new("HelloFlow");
    let hello = flow.layer("Hello", || Ok("hello".to_owned()));
    let parts = flow.layer("Parts", || Ok(vec![1, 2, 3])).sharded();
    let square = flow.foreach("Square", parts, |n: i32| Ok(n * n));
    flow.layer_with("World", (hello, square.join()), |(hello, squares)| {
        println!("{hello} {squares:?}");
        Ok(())
    });
    laminar::main(flow)
}
