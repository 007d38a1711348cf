//! What layers leave: files, folders, bytes, a type with a format of its own, and a sequence too large to be read at once.

use std::fs;
use std::path::Path;

use laminar::prelude::*;
use laminar::{Artifact, Result};

/// Points of the plane, kept as comma separated values.
struct Table(Vec<(i64, i64)>);

impl Artifact for Table {
    const ENDING: &'static str = ".csv";

    fn save(self, to: &Path) -> Result<()> {
        let rows: Vec<String> = self.0.iter().map(|(x, y)| format!("{x},{y}\n")).collect();
        fs::write(to, format!("x,y\n{}", rows.concat())).context("cannot write the table")
    }

    fn load(from: &Path) -> Result<Table> {
        let text = fs::read_to_string(from).context("cannot read the table")?;
        let row = |line: &str| {
            let (x, y) = line.split_once(',').context(format!("`{line}` has no comma"))?;
            Ok((x.parse()?, y.parse()?))
        };
        Ok(Table(text.lines().skip(1).map(row).collect::<Result<_>>()?))
    }
}

fn main() -> ExitCode {
    let flow = Flow::new("Files");
    // A new file is made where it need not be copied when it is left.
    let text = flow.layer("Text", || {
        let text = File::create()?;
        fs::write(&text, "one line\nanother line\n")?;
        Ok(text)
    });
    let text = text.named("text.txt");
    let folder = flow.layer("Pages", || {
        let folder = Folder::create()?;
        for page in ["a", "b", "c"] {
            fs::write(folder.path().join(page), page.repeat(3))?;
        }
        Ok(folder)
    });
    let folder = folder.named("pages");
    // A split for each file in it.
    let lengths = flow.foreach("Length", folder, |page: File| Ok(fs::metadata(page.path())?.len()));
    let bytes = flow.layer("Bytes", || Ok(Bytes(vec![0, 255, 10]))).named("raw.bin");
    let table = flow.layer("Table", || Ok(Table((0..3).map(|x| (x, x * x)).collect()))).named("table");

    // Written one after the other, read where it is wanted: neither is ever in memory as a whole.
    let numbers = flow.layer("Numbers", || Shards::collect(0..1000_u64)).named("numbers");
    let slice = flow.layer_with("Slice", numbers, |numbers: Shards<u64>| {
        let last = numbers.slice(990..).iter().sum::<Result<u64>>()?;
        Ok((numbers.len(), last))
    });
    let all = (text, lengths.join(), bytes, table, slice);
    flow.layer_with("Report", all, |(text, lengths, Bytes(bytes), Table(points), (count, last))| {
        let lines = fs::read_to_string(&text)?.lines().count();
        let y: i64 = points.iter().map(|(_, y)| y).sum();
        Ok(format!("{lines} {lengths:?} {bytes:?} {y} {count} {last}"))
    });
    laminar::main(flow)
}
