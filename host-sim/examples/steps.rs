//! Runs STEPS steps of the core with WANS WANs, to count instructions: `steps WANS STEPS`.

use std::hint::black_box;

use anyhow::{Context as _, Result};
use wanctl_sim::synthetic::RepeatedSteps;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let mut number = || numbers.next().context("usage: steps WANS STEPS");
    let (wans, steps) = (number()??, number()??);
    let mut repeated = RepeatedSteps::new(wans)?;
    for _ in 0..steps {
        black_box(repeated.step());
    }
    Ok(())
}
