//! The time of one step of the core, part of `cargo xtask bench`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use wanctl_sim::synthetic::RepeatedSteps;

fn step(criterion: &mut Criterion) {
    for (name, wans) in [("step, one WAN", 1), ("step, two WANs", 2)] {
        let Ok(mut steps) = RepeatedSteps::new(wans) else { return };
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| black_box(steps.step()).actions.len());
        });
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
