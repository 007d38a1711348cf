//! Fanning out: a grid over several lists, one-to-one chains, zips, joins in order, slices that read only what is in them,
//! and a value that every split is given.

use laminar::prelude::*;

laminar::artifacts! {
    /// What one training leaves: `score.json` and `label.json`.
    pub struct Trained {
        /// How good it is.
        pub score: u32,
        /// What it was trained with.
        pub label: String,
    }
}

fn main() -> ExitCode {
    let flow = Flow::new("Grid");
    let offset = flow.layer("Offset", || Ok(1000_u32));
    let depths = flow.layer("Depths", || Ok(vec![2_u32, 4, 8]));
    // Kept in pieces, one for each item, so that each split reads its own.
    let rates = flow.layer("Rates", || Ok(vec![10_u32, 20])).sharded();

    // Each combination; the last varies fastest. The offset is given to all.
    let train = flow.foreach_with("Train", (depths, rates, ['a', 'b']), offset, |(depth, rate, kind), offset| {
        Ok(Trained { score: offset + depth * rate, label: format!("{depth}-{rate}-{kind}") })
    });
    // One to one: split 3 reads what split 3 has left.
    let half = flow.foreach("Half", train.get(Trained::score), |score| Ok(score / 2));
    let pairs =
        flow.foreach("Pair", zip(train.get(Trained::label), half), |(label, half)| Ok(format!("{label}:{half}")));

    flow.layer_with("All", pairs.join(), |pairs| Ok(pairs.join(" ")));
    // What the splits left is a sequence that is read when it is asked for: here, three of twelve.
    flow.layer_with("Some", pairs, |pairs: Shards<String>| {
        println!("{} in all", pairs.len());
        pairs.slice(2..5).to_vec()
    });
    // The artifacts of a layer without splits are read by name, too, or all at once.
    let best = flow.layer_with("Best", train.get(Trained::score), |scores| {
        let score = scores.to_vec()?.into_iter().max().context("nothing was trained")?;
        Ok(Trained { score, label: "best".to_owned() })
    });
    flow.layer_with("Report", best, |Trained { score, label }| Ok(format!("{label}: {score}")));
    laminar::main(flow)
}
